"""Sound files in and out, in blocks: what soundfile knows, raw samples, and films through the extra `media`.

    with open_sound("in.flac") as sound:                 # rate, channels, subtype, length, tags
        with writing("out.flac", sound) as out:          # the same again, whole or not at all
            for block in sound.blocks(65536):            # float32 (n, channels)
                out.write(block)

A file with samples that are no finite numbers is refused. Integer files are limited at full scale and what
was limited is counted; files of floating point keep what lies above it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError, RecurraError
from core.files import whole_file
from speech.media import open_media
from speech.sound import Sound, reason

SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".caf", ".w64", ".au", ".rf64"}
"""What soundfile reads and writes."""
MEDIA = {".m4a", ".mp4", ".webm", ".mkv", ".mov", ".aac", ".mka", ".3gp"}
"""What needs the extra `media`; reading only."""
RAW = {".raw": "s16", ".pcm": "s16", ".s16": "s16", ".f32": "f32"}
"""Raw samples, and what they are where nobody says."""
FORMATS = {".oga": "OGG", ".opus": "OGG", ".aif": "AIFF"}
OPEN = 1 << 31
"""Bytes of data from which on a header tells no length: its file was written to a pipe."""
SAMPLES = {
    "s16": ("<i2", 2, "PCM_16"),
    "s24": ("<s3", 3, "PCM_24"),
    "s32": ("<i4", 4, "PCM_32"),
    "f32": ("<f4", 4, "FLOAT"),
    "u8": ("u1", 1, "PCM_U8"),
}
"""Raw sample formats, little-endian: NumPy's name, bytes, and what soundfile calls them."""


@dataclass(frozen=True)
class RawFormat:
    """What raw samples are: bytes do not say it."""

    rate: int = 16000
    channels: int = 1
    format: str = "s16"

    def __post_init__(self) -> None:
        if self.format not in SAMPLES:
            raise ConfigError(f"a raw format is one of {', '.join(SAMPLES)}; got {self.format!r}.")
        if self.rate < 1 or self.channels < 1:
            raise ConfigError(f"rate and channels must be positive, got {self.rate} and {self.channels}.")

    @property
    def width(self) -> int:
        """Bytes of a sample of all channels."""
        return SAMPLES[self.format][1] * self.channels

    def decode(self, data: bytes) -> np.ndarray:
        """Whole samples as float32 (n, channels)."""
        if self.format == "f32":
            wave = np.frombuffer(data, "<f4")
        elif self.format == "u8":
            wave = (np.frombuffer(data, "u1").astype(np.float32) - 128) / 128
        elif self.format == "s24":
            parts = np.frombuffer(data, "u1").reshape(-1, 3).astype(np.int32)
            value = (parts[:, 0] | parts[:, 1] << 8 | parts[:, 2] << 16) << 8 >> 8
            wave = value.astype(np.float32) / (1 << 23)
        else:
            kind = SAMPLES[self.format][0]
            wave = np.frombuffer(data, kind).astype(np.float32) / float(1 << (8 * int(kind[-1]) - 1))
        return wave.reshape(-1, self.channels)

    def encode(self, wave: np.ndarray) -> tuple[bytes, int]:
        """float (n, channels) -> bytes, and how many samples were limited at full scale."""
        if self.format == "f32":
            return wave.astype("<f4").tobytes(), 0
        bits = 8 * SAMPLES[self.format][1]
        high = float(1 << (bits - 1))
        scaled = np.round(wave.astype(np.float64) * high)
        limited = int(((scaled > high - 1) | (scaled < -high)).sum())
        whole = np.clip(scaled, -high, high - 1).astype(np.int32)
        if self.format == "u8":
            return (whole + 128).astype("u1").tobytes(), limited
        if self.format == "s24":
            return whole.astype("<i4").reshape(-1, 1).view("u1")[:, :3].tobytes(), limited
        return whole.astype(SAMPLES[self.format][0]).tobytes(), limited


@contextmanager
def open_sound(path: str | Path, raw: RawFormat | None = None) -> Iterator[Sound]:
    """Open a recording by what is in it; raw samples by their suffix or where `raw` is given.

    Raises:
        ConfigError: `raw` is given for a kind of file that says itself what it holds.
        DataError: missing, no sound, or raw bytes that end inside a sample.
        MissingExtraError: a film, and the extra `media` is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file." if not path.is_dir() else f"{path}: a folder, not a file.")
    if not path.stat().st_size:
        raise DataError(f"{path}: an empty file.")
    suffix = path.suffix.lower()
    if raw is not None and suffix in SUFFIXES | MEDIA:
        raise ConfigError(
            f"{path}: a {suffix} file says itself what it holds; "
            "rate, channels and format are told of raw samples only."
        )
    if raw is not None or suffix in RAW:
        yield open_raw(path, raw or RawFormat(format=RAW[suffix]))
        return
    if suffix in MEDIA:
        with open_media(path) as sound:
            yield sound
        return
    import soundfile

    try:
        file = soundfile.SoundFile(str(path))
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"{path}: not a sound file that can be read ({reason(error)}).") from error
    with file:
        if file.channels > 64:
            raise DataError(f"{path}: {file.channels} channels; at most 64 are read.")

        def source(size: int) -> Iterator[np.ndarray]:
            while True:
                try:
                    block = file.read(size, dtype="float32", always_2d=True)
                except (OSError, RuntimeError) as error:
                    raise DataError(f"{path}: breaks off in the middle ({reason(error)}).") from error
                if not len(block):
                    return
                yield block

        tags = {name: value for name, value in file.copy_metadata().items() if value}
        form = file.samplerate, file.channels, file.subtype, file.format, len(file)
        log = file.extra_info
        remarks = [f"{path}: breaks off; its header tells of more."] if breaks_off(log) else []
        if "Unknown chunk marker" in log:
            remarks.append(
                f"{path}: what lies behind the {len(file)} samples that its header tells of is left out."
            )
        yield Sound(path, *form, source, tags, remarks)


def breaks_off(log: str) -> bool:
    """Whether libsndfile has corrected a length downwards; those that a pipe left open aside."""
    found = re.findall(r"^ *(?:data|SSND|Data Size|riff) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    return any(int(held) < int(stated) < OPEN for stated, held in found)


def open_raw(path: Path, raw: RawFormat) -> Sound:
    """A file of bare samples.

    Raises:
        DataError: it ends inside a sample.
    """
    size = path.stat().st_size
    if size % raw.width:
        raise DataError(
            f"{path}: {size} bytes end inside a sample of {raw.width} "
            f"({raw.channels} channels of {raw.format})."
        )

    def source(count: int) -> Iterator[np.ndarray]:
        with path.open("rb") as file:
            while data := file.read(count * raw.width):
                yield raw.decode(data)

    return Sound(path, raw.rate, raw.channels, raw.format, "RAW", size // raw.width, source)


@dataclass
class Writer:
    """Where blocks go."""

    put: Any
    floats: bool
    top: float
    limited: int = 0
    """Samples that were limited at full scale."""

    def write(self, block: np.ndarray) -> None:
        """float (n, channels), or (n,) for one channel.

        Raises:
            RecurraError: the disk is full.
        """
        block = block[:, None] if block.ndim == 1 else block
        if not self.floats:
            self.limited += int(((block > 1.0) | (block < -1.0)).sum())
            block = np.clip(block, -1.0, self.top)
        try:
            self.put(block)
        except (OSError, RuntimeError) as error:
            raise RecurraError(f"the output cannot be written ({reason(error)}).") from error


@contextmanager
def writing(path: str | Path, like: Sound, *, channels: int | None = None) -> Iterator[Writer]:
    """Write a recording with the rate, channels, subtype and tags of another, as far as its format has them.

    Raw samples are as their suffix says (.s16, .f32), or as those of the other one, or 16 bits.

    Raises:
        ConfigError: a suffix that cannot be written, or a format that lacks the rate.
        RecurraError: the disk is full, or the folder is missing.
    """
    path = Path(path)
    channels = like.channels if channels is None else channels
    suffix = path.suffix.lower()
    if suffix in RAW:
        own = suffix[1:] if suffix[1:] in SAMPLES else like.subtype if like.format == "RAW" else RAW[suffix]
        kind = RawFormat(like.rate, channels, own)
        with whole_file(path) as partial, partial.open("wb") as file:
            writer = Writer(None, kind.format == "f32", 1.0)
            writer.put = lambda block: file.write(kind.encode(block)[0])
            yield writer
        return
    asked = SAMPLES[like.subtype][2] if like.format == "RAW" else like.subtype
    kind, subtype = check_output(path, like.rate, channels, asked)
    import soundfile

    with whole_file(path) as partial:
        try:
            file = soundfile.SoundFile(str(partial), "w", like.rate, channels, subtype=subtype, format=kind)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise RecurraError(f"{path}: cannot be written ({reason(error)}).") from error
        with file:
            for name, value in like.tags.items():
                try:
                    setattr(file, name, value)
                except (RuntimeError, ValueError):
                    continue  # this format has no such tag
            floats = subtype in ("FLOAT", "DOUBLE")
            bits = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}.get(subtype, 32)
            yield Writer(file.write, floats, 1.0 - 2.0 ** (1 - bits))


def check_output(path: Path, rate: int, channels: int, subtype: str = "PCM_16") -> tuple[str, str]:
    """Format and subtype of a file to write, before any work is done.

    Raises:
        ConfigError: it cannot be written.
    """
    import soundfile

    suffix = path.suffix.lower()
    if suffix in MEDIA or suffix not in SUFFIXES:
        raise ConfigError(
            f"{path}: a file of kind {suffix or '(no suffix)'} cannot be written; "
            f"choose one of {', '.join(sorted(SUFFIXES | RAW.keys()))}."
        )
    kind = FORMATS.get(suffix, suffix[1:].upper())
    there = soundfile.available_subtypes(kind)
    if suffix == ".opus":
        subtype = "OPUS"
    elif subtype not in there:
        subtype = "PCM_16" if "PCM_16" in there else soundfile.default_subtype(kind) or ""
    if not soundfile.check_format(kind, subtype):
        raise ConfigError(f"{path}: {kind} cannot hold {subtype}.")
    if subtype == "OPUS" and rate not in (8000, 12000, 16000, 24000, 48000):
        raise ConfigError(f"{path}: Opus cannot hold {rate} Hz; choose another kind of file.")
    return kind, subtype


def read_sound(path: str | Path, raw: RawFormat | None = None) -> tuple[np.ndarray, int]:
    """All samples, float32 (N, channels), and the rate."""
    with open_sound(path, raw) as sound:
        return sound.read(), sound.rate


def read_mono(path: str | Path, rate: int) -> np.ndarray:
    """A recording as float32 (N,) at `rate`: channels averaged, resampled by soxr where needed.

    Raises:
        DataError: not a sound file, or empty.
    """
    wave, own = read_sound(path)
    mono = wave.mean(1)
    if own != rate:
        import soxr

        mono = soxr.resample(mono, own, rate, quality="VHQ")
    return np.ascontiguousarray(mono, dtype=np.float32)
