"""What was said, and by whom? A recording or an example: noise taken away, or two talkers kept apart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from core.errors import DataError
from demos.answering import answers
from demos.first import once
from demos.headline import Headline
from demos.markup import Stat, stat_row
from demos.pages.speech_live import EVERY_S, KEPT_S, NOISY, SILENT, TALK, Session, kept, listen, microphone
from demos.progress import stands
from demos.sections.speech import sounds
from demos.uploads import said, uploaded
from speech import metrics
from speech.audio import read_sound
from speech.baselines import wiener
from speech.model import load_model
from speech.no_reference import dnsmos
from speech.predict import enhance, open_stream, separate
from speech.separation import speaking
from speech.synth import mixture_example, noisy_example

HEADLINE = Headline(
    weights="speech-enhance",
    figure="si_sdr_hard",
    shown="{:.1f} dB SI-SDR on hard noise",
    against="si_sdr_hard_input",
    note="the noisy input: {:.1f} dB, talkers and noises that no training saw",
)
EXAMPLES = [NOISY, TALK]
FIRST = 3
"""Example that the page opens with: clicks and knocks, which no simple filter follows."""
MOST_S = 120.0
NOBODY = gr.update(value=None, visible=False)
"""The second player where there is no second talker."""
LIVE_S = 4.0
"""Seconds of a recording that the live replay plays."""


@once
def heard(path: str | None, changed_ns: int, example: str, seed: int) -> tuple[np.ndarray, int, Any]:
    """The chosen recording (N,), its rate, and the truth where it is known."""
    if path is not None:
        wave, rate = read_sound(path)
        if len(wave) > MOST_S * rate:
            raise DataError(f"The recording has {len(wave) / rate:.0f} s; this page takes {MOST_S:.0f}.")
        return wave.mean(1), rate, None
    if example == TALK:
        made = mixture_example(seed)
        return made.mixture, 16000, made.sources
    clip = noisy_example(seed)
    return clip.noisy, 16000, clip.clean


@once
def cleaned(path: str | None, changed_ns: int, example: str, seed: int) -> np.ndarray:
    """What the enhancement network makes of it; sliders only mix."""
    wave, rate, _ = heard(path, changed_ns, example, seed)
    stands(0.2, f"taking noise from {len(wave) / rate:.0f} s")
    return enhance(wave, rate)


@once
def apart(path: str | None, changed_ns: int, example: str, seed: int) -> tuple[np.ndarray, ...]:
    """The tracks of the separation network."""
    wave, rate, _ = heard(path, changed_ns, example, seed)
    stands(0.2, f"keeping two talkers of {len(wave) / rate:.0f} s apart")
    return tuple(separate(wave, rate))


def source(file: str | None, example: str, seed: float) -> tuple[str | None, int, str, int]:
    """What was chosen, in words that tell one choice from another."""
    if file is None:
        return None, 0, example, int(seed or 0)
    path: Path = uploaded(file)
    return str(path), path.stat().st_mtime_ns, example, 0


@said
def show(
    file: str | None, example: str, seed: float, mix: float, limit: float
) -> tuple[str, str, Any, Any, Any, str]:
    """Stat row, waveforms and spectrograms, input, two outputs, and who speaks when."""
    chosen = source(file, example, seed)
    wave, rate, truth = heard(*chosen)
    if example == TALK:
        return talkers(wave, rate, truth, apart(*chosen))
    wet = cleaned(*chosen)
    share = mix * (1 - 10 ** (-limit / 20))
    out = share * wet + (1 - share) * wave
    stats = [Stat(f"{level(wave) - level(out):.1f} dB", "taken away", ours=True)]
    if truth is not None:
        stats = [
            Stat(f"{metrics.si_sdr(out, truth):.1f} dB", "SI-SDR after the network", ours=True),
            Stat(f"{metrics.si_sdr(wave, truth):.1f} dB", "SI-SDR of the input"),
            Stat(f"{metrics.si_sdr(wiener(wave), truth):.1f} dB", "Wiener filter"),
        ]
    latency = open_stream(None, rate).latency_samples / rate
    stats.append(Stat(f"{1000 * latency:.0f} ms", "latency when live"))
    waves = {"input": wave, "after the network": out}
    return stat_row(stats), picture(waves, rate), played(wave, rate), played(out, rate), NOBODY, ""


def talkers(
    wave: np.ndarray, rate: int, truth: Any, tracks: tuple[np.ndarray, ...]
) -> tuple[str, str, Any, Any, Any, str]:
    """The same for two talkers."""
    who = speaking(np.stack(tracks), rate)
    stats = [Stat(f"{sum(bool(part) for part in who)}", "talkers found", ours=True)]
    if truth is not None:
        order = metrics.best_match(tracks, truth)
        gains = [
            metrics.si_sdr(tracks[chosen], source) - metrics.si_sdr(wave, source)
            for chosen, source in zip(order, truth, strict=True)
        ]
        stats = [
            Stat(f"{np.mean(gains):.1f} dB", "gained for each talker (SI-SDR)", ours=True),
            Stat(f"{metrics.si_sdr(wave, truth[0]):.1f} dB", "SI-SDR of the mixture"),
        ]
    loudest = [level(track) for track in tracks]
    stats += [Stat(f"{db:.0f} dB", f"level of track {k + 1}") for k, db in enumerate(loudest)]
    waves = {"mixture": wave} | {f"track {k + 1}, by the network": t for k, t in enumerate(tracks)}
    bars = speaking_bars(who, len(wave) / rate)
    first, second = (played(track, rate) for track in tracks[:2])
    if sum(bool(part) for part in who) < 2:  # a silent track is no talker: only the other one is played
        first, second = (second, NOBODY) if not who[0] and who[1] else (first, NOBODY)
    else:
        second = gr.update(value=second, visible=True)
    return stat_row(stats), picture(waves, rate), played(wave, rate), first, second, bars


def level(wave: np.ndarray) -> float:
    """RMS in dBFS."""
    return 10 * float(np.log10(np.mean(np.square(wave)) + 1e-12))


def played(wave: np.ndarray, rate: int) -> tuple[int, np.ndarray]:
    """As a player wants it: 16-bit samples."""
    return rate, np.clip(np.asarray(wave) * 32767, -32768, 32767).astype(np.int16)


def picture(waves: dict[str, np.ndarray], rate: int) -> str:
    """Waveforms and spectrograms one below the other, up to 8 kHz."""
    return sounds({name: metrics.resampled(wave, rate, 16000) for name, wave in waves.items()})


def speaking_bars(who: list[list[tuple[float, float]]], seconds: float) -> str:
    """Who speaks when, as bars over time."""
    colours = ("var(--r-ours)", "var(--r-second)", "var(--r-third)")
    rows = []
    for k, part in enumerate(who):
        bars = "".join(
            f'<rect x="{100 * low / seconds:.2f}%" y="{14 * k + 2}" height="10" '
            f'width="{100 * (high - low) / seconds:.2f}%" fill="{colours[k % 3]}"/>'
            for low, high in part
        )
        rows.append(bars)
    words = "; ".join(
        f"talker {k + 1} " + ", ".join(f"{low:.1f} to {high:.1f} s" for low, high in part)
        for k, part in enumerate(who)
        if part
    )
    return (
        f'<svg class="r-speakers" role="img" aria-label="Who speaks when: {words}" width="100%" '
        f'height="{14 * len(who) + 2}">'
        f"{''.join(rows)}</svg><p class='r-note'>Who speaks when: {words or 'nobody'}.</p>"
    )


@said
def live(file: str | None, example: str, seed: float) -> Iterator[str]:
    """The recording through the live stream in blocks of 10 ms: what it costs and how late it comes."""
    import time

    wave, rate, _ = heard(*source(file, example, seed))
    wave = wave[: int(LIVE_S * rate)]
    stream = open_stream(None, rate)
    stream.warm()
    size, spent, slowest = max(1, rate // 100), 0.0, 0.0
    for start in range(0, len(wave), size):
        block = wave[start : start + size]
        began = time.perf_counter()
        stream.feed(block)
        took = time.perf_counter() - began
        spent, slowest = spent + took, max(slowest, took)
        done = (start + len(block)) / rate
        if start // size % 50 == 49 or start + size >= len(wave):
            yield stat_row(
                [
                    Stat(f"{spent / done:.3f}", "of real time, one stream", ours=True),
                    Stat(f"{1000 * stream.latency_samples / rate:.0f} ms", "latency"),
                    Stat(f"{1000 * slowest:.1f} ms", "slowest block of 10 ms"),
                    Stat(f"{done:.1f} s", "replayed"),
                ]
            )


@once
def mos(
    path: str | None, changed_ns: int, example: str, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """DNSMOS of the input and of what the enhancement network makes of it."""
    wave, rate, _ = heard(path, changed_ns, example, seed)
    return dnsmos(wave, rate), dnsmos(cleaned(path, changed_ns, example, seed), rate)


@said
def score(file: str | None, example: str, seed: float) -> str:
    """What listeners would say, guessed without a reference: overall and background, after and before."""
    stands(0.2, "listening twice")
    before, after = mos(*source(file, example, seed))
    if not np.isfinite(after["dnsmos_ovrl"]):
        raise DataError("DNSMOS needs a second of sound.")
    return stat_row(
        [
            Stat(f"{after['dnsmos_ovrl']:.2f}", "overall after the network (DNSMOS, 1 to 5)", ours=True),
            Stat(f"{before['dnsmos_ovrl']:.2f}", "overall of the input"),
            Stat(f"{after['dnsmos_sig']:.2f}", f"speech alone (input {before['dnsmos_sig']:.2f})"),
            Stat(f"{after['dnsmos_bak']:.2f}", f"background (input {before['dnsmos_bak']:.2f})"),
        ]
    )


@said
def ended(session: Session | None) -> tuple[str, Any, Any, Any, str]:
    """What the microphone heard and what became of it, to look at and to listen to."""
    wave, made, rate = kept(session)
    if len(made) > 1:
        _, *shown = talkers(wave, rate, None, tuple(made))
        return tuple(shown)  # pyright: ignore[reportReturnType]
    waves = {"microphone": wave, "after the network, live": made[0]}
    return picture(waves, rate), played(wave, rate), played(made[0], rate), NOBODY, ""


def build() -> gr.Blocks:
    """The page."""
    load_model(None, "enhance")
    with gr.Blocks(title="Recurra: speech", analytics_enabled=False) as page:
        gr.HTML(
            "<h1>What was said, and by whom?</h1><p class='r-lead'>Choose an example, record, or drop a "
            "file (wav, flac, ogg, opus, mp3, aiff): noise is taken away, or two talkers come apart.</p>",
            padding=False,
        )
        with gr.Row():
            with gr.Column(elem_classes="r-left"):
                example = gr.Radio(EXAMPLES, value=NOISY, label="What to do", elem_id="task")
                file = gr.Audio(
                    label="Your own recording",
                    sources=["upload", "microphone"],
                    type="filepath",
                    elem_id="recording",
                    buttons=["download"],
                )
                mix = gr.Slider(0.0, 1.0, value=1.0, step=0.05, label="Dry to wet")
                limit = gr.Slider(0.0, 60.0, value=60.0, step=1.0, label="Largest attenuation (dB)")
                with gr.Row():
                    run = gr.Button("Live replay", variant="primary", min_width=80)
                    stop = gr.Button("Stop", min_width=60)
                rate_it = gr.Button("Score without a reference", min_width=80)
                with gr.Accordion("More settings", open=False):
                    seed = gr.Number(value=FIRST, precision=0, label="Number of the example", minimum=0)
            with gr.Column(elem_classes="r-right"):
                figures = gr.HTML(elem_id="stats", padding=False)
                drawn = gr.HTML(elem_id="sounds")
                bars = gr.HTML(elem_id="speakers")
                before = player("Input", "before")
                first = player("Output", "first")
                second = player("Second talker", "second", visible=False)
                with gr.Accordion("Live, from your microphone", open=False):
                    gr.HTML(
                        f"<p class='r-note'>What you say goes through the causal network of the task in "
                        f"blocks of 10 ms; the browser sends every {1000 * EVERY_S:.0f} ms. Stop, and up to "
                        f"{KEPT_S:.0f} s are drawn and played above.</p>"
                    )
                    mic = microphone()
                    costs = gr.HTML(stat_row([Stat("-", SILENT)]), elem_id="live")
                    session = gr.State(None)
        inputs = [file, example, seed, mix, limit]
        views = [drawn, before, first, second, bars]
        answers(
            page,
            show,
            inputs,
            [figures, *views],
            [example.change, file.change, seed.change, mix.release, limit.release],
            word="speech",
            name="listen",
        )
        playing = run.click(
            live, inputs[:3], figures, api_name="live", show_progress="hidden", concurrency_id="speech live"
        )
        scoring = rate_it.click(
            score, inputs[:3], figures, api_name="score", show_progress="full", concurrency_id="speech"
        )
        stop.click(None, cancels=[playing, scoring], api_visibility="private")
        mic.start_recording(
            lambda: None,
            None,
            session,
            api_visibility="private",
            show_progress="hidden",
            concurrency_id="speech",
        )
        mic.stream(
            listen,
            [mic, example, session],
            [session, costs],
            api_visibility="private",
            show_progress="hidden",
            stream_every=EVERY_S,
            time_limit=600,
            concurrency_id="speech microphone",
            concurrency_limit=2,
        )
        mic.stop_recording(
            ended, session, views, api_visibility="private", show_progress="minimal", concurrency_id="speech"
        )
    return page


def player(label: str, elem_id: str, *, visible: bool = True) -> gr.Audio:
    """A track to listen to and to download."""
    return gr.Audio(label=label, interactive=False, elem_id=elem_id, buttons=["download"], visible=visible)
