"""Speech in the report: generated talkers and noises through the bundled networks, beside simple methods."""

from typing import Any

import numpy as np

from core.report import number
from demos.markup import Stat
from demos.plots import drawing, png
from demos.report import Section
from demos.theme import OURS, SOFT

CLIPS, MIXTURES = 8, 4
RATE = 16000
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
                spectrograms(
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


def spectrograms(waves: dict[str, np.ndarray], height: float = 1.7) -> str:
    """Waves as pictures one below the other on one time axis, all on one scale."""
    shown = {name: power_db(wave) for name, wave in waves.items()}
    top = max(float(picture.max()) for picture in shown.values())
    with drawing(9.0, height * len(shown)) as (figure, axes):
        axes.remove()
        below = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axis, (name, picture) in zip(below, shown.items(), strict=True):
            seconds = len(next(iter(waves.values()))) / RATE
            axis.imshow(
                picture,
                origin="lower",
                aspect="auto",
                extent=(0, seconds, 0, 8),
                cmap="magma",
                vmin=top - 70,
                vmax=top,
            )
            axis.grid(False)
            axis.set_ylabel("kHz")
            axis.set_title(name, color=OURS if "network" in name else SOFT, fontsize=10)
        below[-1].set_xlabel("time (s)")
        figure.tight_layout()
        return png(figure, "Spectrograms: " + ", ".join(waves))
