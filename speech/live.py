"""Samples from a pipe or the sound card through a stream, with a report at the end.

A block that comes when too much computing lies behind passes dry, never dropped; dropouts and clipping are
counted.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np

from core.errors import ConfigError
from speech.audio import RawFormat
from speech.live_separation import LiveSeparation
from speech.stream import EnhanceStream

BACKLOG_S = 0.1
"""Computing that may lie behind the samples before a block passes dry: what a sound card buffers."""


LONGEST_MS = 10_000


@dataclass
class LiveReport:
    """What a session was like."""

    seconds: float = 0.0
    latency_ms: float = 0.0
    """Of the network and its changes of rate."""
    load: float = 0.0
    """Computing time per time of sound."""
    slowest_ms: float = 0.0
    """Slowest block."""
    late_blocks: int = 0
    """Blocks that took longer than they last, or dropouts of the card."""
    dry_blocks: int = 0
    """Blocks that passed as they were, so that the delay stays what it is."""
    clipped: int = 0
    """Samples limited at full scale."""
    bad_samples: int = 0
    lost_bytes: int = 0
    """Bytes behind the last whole sample."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.seconds:.1f} s, latency {self.latency_ms:.1f} ms, load {self.load:.3f}, "
            f"slowest block {self.slowest_ms:.1f} ms, {self.late_blocks} late, {self.dry_blocks} dry, "
            f"{self.clipped} clipped"
        )


class Punctual:
    """A stream that keeps its time: counts what blocks cost, lets one pass dry when too much lies behind."""

    def __init__(
        self,
        stream: EnhanceStream | LiveSeparation,
        report: LiveReport,
        *,
        patient: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.stream, self.report, self.patient, self.clock = stream, report, patient, clock
        self.behind = self.spent = 0.0

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """One block through the stream."""
        dry = not self.patient and self.behind > BACKLOG_S
        began = self.clock()
        out = self.stream.feed(block, dry=dry)
        took, lasts = self.clock() - began, len(block) / self.stream.rate
        self.spent += took
        self.behind = max(0.0, self.behind + took - lasts)
        report = self.report
        report.dry_blocks += dry
        report.late_blocks += took > lasts
        report.slowest_ms = max(report.slowest_ms, 1000 * took)
        report.seconds += lasts
        report.load = self.spent / report.seconds
        return out


def pipe(
    stream: EnhanceStream | LiveSeparation,
    raw: RawFormat,
    source: BinaryIO,
    sink: BinaryIO,
    block_ms: float = 10.0,
    *,
    patient: bool = False,
) -> LiveReport:
    """Raw samples from one pipe to another until the first ends; as many come out as went in.

    The stream's delay is not taken off: what comes out is `latency_samples` late, and the last of it follows
    when the input has ended.

    Args:
        patient: no block passes dry however long it takes, for pipes that nobody listens to.

    Raises:
        ConfigError: no length of a block.
    """
    report = LiveReport(latency_ms=1000 * stream.latency_samples / stream.rate)
    advance = Punctual(stream, report, patient=patient)
    for block in blocks(raw, source, block_size(block_ms, raw.rate), report):
        put(advance(block), raw, sink, report)
    put(stream.flush(), raw, sink, report)
    report.bad_samples = stream.bad_samples
    return report


def block_size(block_ms: float, rate: int) -> int:
    """Samples of a block, one at least.

    Raises:
        ConfigError: no length of a block.
    """
    if not 0 < block_ms <= LONGEST_MS:
        raise ConfigError(f"a block lasts more than 0 and at most {LONGEST_MS} ms, got {block_ms}.")
    return max(1, int(block_ms * rate / 1000))


def blocks(raw: RawFormat, source: BinaryIO, size: int, report: LiveReport) -> Iterator[np.ndarray]:
    """Whole samples as they come; a pipe may give any number of bytes at a time."""
    left = b""
    read = getattr(source, "read1", source.read)
    while data := read(size * raw.width):
        data = left + data
        whole = len(data) // raw.width * raw.width
        left = data[whole:]
        if whole:
            yield raw.decode(data[:whole])
    report.lost_bytes = len(left)


def put(out: np.ndarray, raw: RawFormat, sink: BinaryIO, report: LiveReport) -> None:
    """Samples as bytes, at once."""
    data, limited = raw.encode(out if out.ndim == 2 else out[:, None])
    report.clipped += limited
    sink.write(data)
    sink.flush()


def sound_card(stream: EnhanceStream | LiveSeparation, block_ms: float, seconds: float | None) -> LiveReport:
    """Microphone to loudspeaker until Ctrl-C, or for so many seconds.

    Raises:
        ConfigError: no sound card, or the system's PortAudio library is missing.
        MissingExtraError: the extra `sound` is not installed.
    """
    from core.terminal import need

    need("sound", "sounddevice")
    try:
        import sounddevice
    except OSError as error:
        raise ConfigError(f"the sound card cannot be used ({error}); install PortAudio.") from error
    report = LiveReport(latency_ms=1000 * stream.latency_samples / stream.rate)
    size, advance = block_size(block_ms, stream.rate), Punctual(stream, report)
    outputs = stream.talkers if isinstance(stream, LiveSeparation) else 1

    def callback(heard: np.ndarray, played: np.ndarray, frames: int, _: Any, status: Any) -> None:
        report.late_blocks += bool(status)
        report.clipped += int((np.abs(heard) >= 1).sum())
        played[:] = advance(heard[:, 0]).reshape(frames, outputs)

    try:
        with sounddevice.Stream(
            samplerate=stream.rate, channels=(1, outputs), blocksize=size, callback=callback
        ):
            end = None if seconds is None else time.monotonic() + seconds
            while end is None or time.monotonic() < end:
                time.sleep(0.1)
    except KeyboardInterrupt:
        pass
    except sounddevice.PortAudioError as error:
        raise ConfigError(f"the sound card cannot be used ({error}).") from error
    return report
