"""Speech in the report: generated talkers and noises through the bundled networks, beside simple methods."""

import html
import io
from typing import Any

import numpy as np

from core.report import number
from demos.markup import Stat
from demos.plots import image
from demos.report import Section

CLIPS, MIXTURES = 8, 4
RATE = 16000
TICKS = 6
"""Steps of the time axis."""
DYNAMIC_DB = 70
LOUD = 0.995
"""Share of the samples that the waveforms have place for: a click is cut off."""
FIGURES = ("si_sdr", "pesq_wb", "stoi")


def section(seed: int) -> Section:
    """Score both networks on generated clips and draw one of each."""
    from speech import metrics
    from speech.baselines import ideal_mask, wiener
    from speech.model import load_model
    from speech.predict import enhance, separate
    from speech.synth import mixture_example, noisy_example

    remover, separator = load_model(None, "enhance"), load_model(None, "separate")
    rows: dict[str, list[dict[str, float]]] = {"model": [], "input": [], "Wiener filter": []}
    clips = [noisy_example(100 * seed + k) for k in range(CLIPS)]
    cleaned = [enhance(clip.noisy, RATE, weights=remover) for clip in clips]
    for clip, ours in zip(clips, cleaned, strict=True):
        rows["model"].append(metrics.every(ours, clip.clean, RATE))
        rows["input"].append(metrics.every(clip.noisy, clip.clean, RATE))
        rows["Wiener filter"].append(metrics.every(wiener(clip.noisy), clip.clean, RATE))
    noise = {name: metrics.mean(found) for name, found in rows.items()}
    talk: dict[str, list[dict[str, float]]] = {"model": [], "mixture": [], "ideal mask": []}
    mixtures = [mixture_example(100 * seed + k) for k in range(MIXTURES)]
    tracks = [separate(mix.mixture, RATE, weights=separator) for mix in mixtures]
    for mix, found in zip(mixtures, tracks, strict=True):
        for name, estimates in (
            ("model", found),
            ("mixture", [mix.mixture] * 2),
            ("ideal mask", ideal_mask(mix.mixture, mix.sources)),
        ):
            talk[name].append(metrics.separated(estimates, mix.sources, mix.mixture, RATE))
    two = {name: metrics.mean(found) for name, found in talk.items()}
    gain = (noise["model"]["si_sdr"] or 0) - (noise["input"]["si_sdr"] or 0)
    shown = max(range(CLIPS), key=lambda k: rows["model"][k]["si_sdr"] - rows["input"][k]["si_sdr"])
    return Section(
        title="Speech",
        question="What was said, and by whom?",
        what=f"{CLIPS} generated voices in generated noises, and {MIXTURES} mixtures of two generated "
        "voices; the networks were trained on real ones.",
        stats=(
            Stat(f"{number(gain, 1)} dB", "noise taken away (SI-SDR)", ours=True),
            Stat(f"{number(noise['input']['si_sdr'], 1)} dB", "SI-SDR of the input"),
            Stat(f"{number(noise['Wiener filter']['si_sdr'], 1)} dB", "Wiener filter"),
            Stat(f"{number(two['model']['si_sdri'], 1)} dB", "gained for each of two talkers", ours=True),
        ),
        head=("method", "SI-SDR dB", "PESQ-wb", "STOI"),
        rows=[row("model", noise["model"]), row("input", noise["input"])]
        + [row("Wiener filter", noise["Wiener filter"])]
        + [row(f"two talkers: {name}", two[name]) for name in two],
        ours="model",
        compare="input",
        pictures=[
            (
                sounds(
                    {
                        f"input, {clips[shown].kind}": clips[shown].noisy,
                        "after the network": cleaned[shown],
                        "what was said": clips[shown].clean,
                    }
                ),
                "The clip with the largest gain: noise goes, the voice stays.",
            )
        ],
        command="recurra speech enhance noisy.wav -o clean.wav",
        links=(("Speech in the README", "README.md#speech"),
               ("Card of the weights", "speech/weights/README.md")),
    )  # fmt: skip


def row(name: str, figures: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    return (name, *(number(figures.get(key), 3 if key == "stoi" else 2) for key in FIGURES))


def power_db(wave: np.ndarray) -> np.ndarray:
    """Log power (257, T) of a wave at 16 kHz."""
    from speech.baselines import stft

    return 20 * np.log10(np.abs(stft(np.asarray(wave, np.float64))).T + 1e-6)


def sounds(waves: dict[str, np.ndarray], ours: str = "network") -> str:
    """Waveform and spectrogram of waves at 16 kHz, one below the other on one time axis, all on one scale.

    Args:
        ours: what the names of the network's own waves hold.
    """
    shown = {name: power_db(wave) for name, wave in waves.items()}
    top = max(float(picture.max()) for picture in shown.values())
    peak = max(float(np.quantile(np.abs(wave), LOUD)) for wave in waves.values())
    tracks = []
    for name, wave in waves.items():
        mine = " r-mine" if ours in name else ""
        tracks.append(
            f'<div class="r-track{mine}"><b>{html.escape(name)}</b>{waveform(wave, peak)}'
            f'<div class="r-spectrum">{spectrogram(shown[name], top)}<i>8 kHz</i><i>0</i></div></div>'
        )
    seconds = len(next(iter(waves.values()))) / RATE
    steps = [f"<span>{seconds * k / TICKS:.1f}{' s' if k == TICKS else ''}</span>" for k in range(TICKS + 1)]
    label = html.escape("Waveforms and spectrograms, 0 to 8 kHz: " + ", ".join(waves), quote=True)
    return (
        f'<div class="r-sound" role="img" aria-label="{label}">{"".join(tracks)}'
        f'<div class="r-times">{"".join(steps)}</div></div>'
    )


def waveform(wave: np.ndarray, peak: float, columns: int = 600) -> str:
    """Lowest and highest sample of every column, as a shape as wide as its place."""
    columns = max(1, min(columns, len(wave)))
    edges = np.linspace(0, len(wave), columns, endpoint=False).astype(int)
    scaled = np.clip(np.asarray(wave, np.float64) / max(peak, 1e-9), -1, 1)
    high, low = np.maximum.reduceat(scaled, edges), np.minimum.reduceat(scaled, edges)
    over = [f"{k} {-max(value, 0.008):.3f}" for k, value in enumerate(high)]
    under = [f"{k} {-min(value, -0.008):.3f}" for k, value in enumerate(low)]
    return (
        f'<svg viewBox="0 -1 {columns} 2" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M{"L".join([*over, *reversed(under)])}Z" fill="currentColor"/></svg>'
    )


def spectrogram(power: np.ndarray, top: float) -> str:
    """A picture that is as wide as its place; 70 dB from black to the brightest."""
    from matplotlib import colormaps
    from PIL import Image

    shade = np.clip((power[::-1] - top) / DYNAMIC_DB + 1, 0, 1)
    pixels = (colormaps["magma"](shade)[..., :3] * 255).astype(np.uint8)
    picture = Image.fromarray(pixels).resize((min(1200, max(300, power.shape[1])), 160))
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return image(buffer.getvalue(), "")
