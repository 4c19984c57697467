"""The microphone, live: pieces as the browser sends them, through the network's stream, and what it costs."""

from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import numpy as np

from core.errors import DataError
from demos.markup import Stat, stat_row
from demos.uploads import said
from speech.live import LiveReport, Punctual
from speech.live_separation import LiveSeparation
from speech.predict import open_live_separation, open_stream
from speech.stream import EnhanceStream

NOISY, TALK = "noisy voice", "two talkers"
"""What is done: noise is taken away, or talkers are kept apart."""
EVERY_S = 0.5
"""How often the browser sends what it has: each piece is two requests, which cost more than the network."""
BLOCK_S = 0.01
KEPT_S = 60.0
"""Seconds of a session that can be heard afterwards; the stream itself goes on."""
SILENT = "Press record and speak."


@dataclass
class Session:
    """One visitor's stream from the first piece to the last."""

    task: str
    rate: int
    stream: EnhanceStream | LiveSeparation
    report: LiveReport
    advance: Punctual
    heard: list[np.ndarray] = field(default_factory=list)
    made: list[np.ndarray] = field(default_factory=list)
    """(n, talkers) each; one column where noise is taken away."""


def begun(task: str, rate: int) -> Session:
    """A stream at the rate of the browser's microphone, warm."""
    stream = open_live_separation(rate=rate) if task == TALK else open_stream(None, rate)
    for _ in range(20):  # compiles
        stream.feed(np.zeros(int(BLOCK_S * rate), np.float32))
    stream = open_live_separation(rate=rate) if task == TALK else open_stream(None, rate)
    report = LiveReport(latency_ms=1000 * stream.latency_samples / rate)
    return Session(task, rate, stream, report, Punctual(stream, report))


@said
def listen(piece: tuple[int, np.ndarray] | None, task: str, session: Session | None) -> tuple[Any, str]:
    """One piece of the microphone: the session, and where it stands."""
    if piece is None:
        return session, stat_row([Stat("-", SILENT)])
    rate, samples = piece
    wave = as_float(samples)
    if session is None or session.rate != rate or session.task != task:
        session = begun(task, rate)
    size = max(1, int(BLOCK_S * rate))
    for start in range(0, len(wave), size):
        block = wave[start : start + size]
        out = np.asarray(session.advance(block))
        if session.report.seconds <= KEPT_S:
            session.heard.append(block)
            session.made.append(out.reshape(len(block), -1))
    return session, stat_row(standing(session))


def as_float(samples: np.ndarray) -> np.ndarray:
    """(n,) in -1..1 of what the browser sent, its channels averaged.

    Raises:
        DataError: no sound.
    """
    samples = np.asarray(samples)
    if samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / np.iinfo(samples.dtype).max
    elif samples.dtype.kind != "f":
        raise DataError("The microphone sends no sound.")
    return samples.reshape(len(samples), -1).mean(1).astype(np.float32)


def standing(session: Session) -> list[Stat]:
    """Load, latency and what came late."""
    report = session.report
    late = f"{report.late_blocks} late, {report.dry_blocks} dry"
    return [
        Stat(f"{report.load:.3f}", "of real time, computing", ours=True),
        Stat(f"{report.latency_ms:.0f} ms", "latency of the network"),
        Stat(f"{report.slowest_ms:.1f} ms", "slowest block of 10 ms"),
        Stat(late, "of all blocks"),
        Stat(f"{report.seconds:.1f} s", "heard"),
    ]


def kept(session: Session | None) -> tuple[np.ndarray, list[np.ndarray], int]:
    """What was heard (n,), what the network made of it, with its delay taken off, and the rate.

    Raises:
        DataError: nothing was heard.
    """
    if session is None or not session.heard:
        raise DataError("Nothing was heard: press record and speak.")
    wave, made = np.concatenate(session.heard), np.concatenate(session.made)
    late = min(session.stream.latency_samples, len(wave) - 1)
    return wave[: len(wave) - late], list(made[late:].T), session.rate


def microphone() -> gr.Audio:
    """The block that records, piece by piece."""
    return gr.Audio(
        label="Microphone",
        sources=["microphone"],
        streaming=True,
        type="numpy",
        elem_id="microphone",
        waveform_options=gr.WaveformOptions(show_recording_waveform=False),
    )
