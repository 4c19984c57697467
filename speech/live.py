"""Samples from a pipe or the sound card through a stream, with a report at the end.

A block that is late is passed on dry, never dropped; dropouts and clipping are counted.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np

from speech.audio import RawFormat
from speech.stream import EnhanceStream


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
            f"slowest block {self.slowest_ms:.1f} ms, {self.late_blocks} late, {self.clipped} clipped"
        )


def pipe(
    stream: EnhanceStream, raw: RawFormat, source: BinaryIO, sink: BinaryIO, block_ms: float = 10.0
) -> LiveReport:
    """Raw samples from one pipe to another until the first ends; as many come out as went in.

    The stream's delay is not taken off: what comes out is `latency_samples` late, and the last of it follows
    when the input has ended.
    """
    report = LiveReport(latency_ms=1000 * stream.latency_samples / stream.rate)
    spent = 0.0
    for block in blocks(raw, source, max(1, int(block_ms * raw.rate / 1000)), report):
        began = time.perf_counter()
        out = stream.feed(block)
        took = time.perf_counter() - began
        spent += took
        report.slowest_ms = max(report.slowest_ms, 1000 * took)
        report.late_blocks += took > len(block) / raw.rate
        report.seconds += len(block) / raw.rate
        put(out, raw, sink, report)
    put(stream.flush(), raw, sink, report)
    report.load = spent / max(report.seconds, 1e-9)
    report.bad_samples = stream.bad_samples
    return report


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


def sound_card(stream: EnhanceStream, block_ms: float, seconds: float | None) -> LiveReport:
    """Microphone to loudspeaker until Ctrl-C, or for so many seconds.

    Raises:
        ConfigError: no sound card, or the system's PortAudio library is missing.
        MissingExtraError: the extra `sound` is not installed.
    """
    from core.errors import ConfigError
    from core.terminal import need

    need("sound", "sounddevice")
    try:
        import sounddevice
    except OSError as error:
        raise ConfigError(f"the sound card cannot be used ({error}); install PortAudio.") from error
    report = LiveReport(latency_ms=1000 * stream.latency_samples / stream.rate)
    size, spent = max(1, int(block_ms * stream.rate / 1000)), [0.0]

    def callback(heard: np.ndarray, played: np.ndarray, frames: int, _: Any, status: Any) -> None:
        began = time.perf_counter()
        report.late_blocks += bool(status)
        report.clipped += int((np.abs(heard) >= 1).sum())
        played[:] = stream.feed(heard[:, 0])[:, None]
        took = time.perf_counter() - began
        spent[0] += took
        report.slowest_ms = max(report.slowest_ms, 1000 * took)
        report.seconds += frames / stream.rate

    try:
        with sounddevice.Stream(samplerate=stream.rate, channels=1, blocksize=size, callback=callback):
            end = None if seconds is None else time.monotonic() + seconds
            while end is None or time.monotonic() < end:
                time.sleep(0.1)
    except KeyboardInterrupt:
        pass
    except sounddevice.PortAudioError as error:
        raise ConfigError(f"the sound card cannot be used ({error}).") from error
    report.load = spent[0] / max(report.seconds, 1e-9)
    return report
