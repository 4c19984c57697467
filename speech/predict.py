"""What users and pages call: waves, bytes and files through a network, answered in kind."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError
from speech.audio import RawFormat, open_sound, writing
from speech.live_separation import LiveSeparation
from speech.model import LIVE_SEPARATION, Model, load_model
from speech.models.separate import SeparateNet
from speech.passes import MOST
from speech.precision import halved
from speech.resume import Journal, Spool
from speech.separation import GATE_DB, SeparateStream, speaking
from speech.sound import BLOCK, Sound
from speech.stream import Channels, EnhanceStream
from speech.voices import for_voice
from speech.waves import as_wave
from speech.windows import WindowStream

PIECE_S = 8.0
"""Seconds of a file that go through a stream at once."""


@dataclass(frozen=True)
class Enhanced:
    """What became of a file."""

    path: str
    out: str
    rate: int
    channels: int
    seconds: float
    limited: int
    """Samples limited at full scale."""
    attenuation_db: float
    """How much quieter the whole file became."""
    remarks: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__}


@dataclass(frozen=True)
class Separated:
    """What became of a mixture."""

    path: str
    out: list[str]
    rate: int
    seconds: float
    limited: int
    talkers: int
    """Tracks with speech in them; one more than there are tracks where these hold further talkers."""
    segments: list[dict[str, Any]] = field(default_factory=list)
    """{"talker", "begin_s", "end_s"} in order of time."""
    remarks: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__}


def enhance(
    wave: Any,
    rate: int | None = None,
    *,
    weights: str | Path | Model | None = None,
    voice: Any = None,
    channels: Channels = "each",
    limit_db: float | None = None,
    mix: float = 1.0,
    precision: str = "float32",
    device: str = "cpu",
) -> Any:
    """Remove noise: the same shape, rate, length and level come back.

    Args:
        wave: (N,) or (N, C) array or tensor in -1..1, with `rate`; or a path, bytes or open file of a sound.
        weights: bundled name, file or run; the bundled network when left out.
        voice: a clip of the one talker to keep, in any of the forms of `wave` (samples: at `rate`).
        channels: each by itself; link: one gain for all, so that the image stays; mono: mixed down.
        limit_db: largest attenuation; None: as the network likes.
        mix: 1 is the network's output, 0 the input.
        precision: float32, or bfloat16 for the products of published networks that need whole waves.

    Raises:
        DataError: no sound, an empty one, or samples that are no finite numbers.
    """
    samples, rate, shape = as_wave(wave, rate)
    model = enhancer(weights, voice, rate, device)
    stream = file_stream(
        model,
        rate,
        samples.shape[1],
        precision=precision,
        channels=channels,
        limit_db=limit_db,
        mix=mix,
        device=device,
    )
    out = np.concatenate(list(through(stream, in_blocks(samples, int(PIECE_S * rate)))))
    return shape(out)


def separate(
    wave: Any,
    rate: int | None = None,
    *,
    weights: str | Path | Model | None = None,
    consistent: bool = True,
    gate_db: float | None = GATE_DB,
    precision: str = "float32",
    passes: int | None = None,
    device: str = "cpu",
) -> list[Any]:
    """One wave (N,) for each talker of a mixture; they add up to it. Several channels are averaged first.

    Args:
        gate_db: a track that stays so far below the others is silenced; None: never.
        precision: float32, or bfloat16 for the products of large published networks.
        passes: how often each window goes through, 1 to 4; None: 4 for the networks of ours, 1 for others.

    Raises:
        DataError: as `enhance`.
    """
    samples, rate, shape = as_wave(wave, rate)
    model = weights if isinstance(weights, Model) else load_model(weights, "separate", device)
    stream = separation_stream(
        model, rate, consistent=consistent, gate_db=gate_db, precision=precision, passes=passes
    )
    mono = samples.mean(1)
    parts = [stream.feed(mono[i : i + BLOCK]) for i in range(0, len(mono), BLOCK)]
    tracks = np.concatenate(list(stream.sorted_out([*parts, stream.flush()])), 1)
    return [shape(track) for track in tracks]


def open_stream(
    model: str | Path | Model | None = None,
    rate: int = 16000,
    channels_in: int = 1,
    *,
    voice: Any = None,
    channels: Channels = "each",
    limit_db: float | None = None,
    mix: float = 1.0,
    device: str = "cpu",
) -> EnhanceStream:
    """An enhancement stream: `feed(samples)`, `flush()`, `latency_samples`, `state()`, `load_state()`.

    Raises:
        ConfigError: the network needs the whole recording.
    """
    found = enhancer(model, voice, rate, device)
    if not found.streams:
        raise ConfigError(f"{found.name} needs the whole recording and cannot stream.")
    return EnhanceStream(
        found.network, rate, channels_in, name=found.name, mode=channels, limit_db=limit_db, mix=mix
    )


def enhancer(weights: str | Path | Model | None, voice: Any, rate: int, device: str) -> Model:
    """The network that is asked for, turned by a clip of a voice where there is one."""
    if voice is not None:
        return for_voice(voice, rate, weights=weights, device=device)
    return weights if isinstance(weights, Model) else load_model(weights, "enhance", device)


def passes_of(model: Model) -> int:
    """How often a window goes through a network when nobody says: the small one of ours as often as helps."""
    return MOST if isinstance(model.network, SeparateNet) else 1


def separation_stream(
    model: Model, rate: int, *, precision: str = "float32", passes: int | None = None, **words: Any
) -> SeparateStream:
    """Windows of a mixture through a network, at its own rate and level.

    Raises:
        ConfigError: no such precision, or number of passes.
    """
    own: dict[str, Any] = {"own_rate": model.rate, "level_db": model.level_db, "half": halved(precision)}
    own["passes"] = passes_of(model) if passes is None else passes
    return SeparateStream(model.network, model.talkers, rate, **own, **words)


def file_stream(
    model: Model,
    rate: int,
    channels_in: int,
    *,
    precision: str = "float32",
    device: str = "cpu",
    **words: Any,
) -> EnhanceStream | WindowStream:
    """What files go through: the stream of a causal network, windows of one that needs whole waves.

    Raises:
        ConfigError: see the streams; bfloat16 is for windows.
    """
    half = halved(precision)
    if model.streams:
        if half:
            raise ConfigError(f"{model.name} goes frame by frame, in float32 only.")
        return open_stream(model, rate, channels_in, device=device, **words)
    mode = words.pop("channels", "each")
    own: dict[str, Any] = {"own_rate": model.rate, "level_db": model.level_db, "half": half}
    return WindowStream(model.network, rate, channels_in, mode=mode, **own, **words)


def open_live_separation(
    model: str | Path | Model | None = None, rate: int = 16000, channels_in: int = 1, *, device: str = "cpu"
) -> LiveSeparation:
    """A separation stream: `feed((n,)) -> (n, talkers)`, `flush()`, `latency_samples`.

    Raises:
        ConfigError: the network needs the whole recording. WeightsError: no causal weights are bundled here.
    """
    found = model if isinstance(model, Model) else load_model(model or LIVE_SEPARATION, "separate", device)
    return LiveSeparation(found.network, rate, channels_in, name=found.name)


def through(stream: EnhanceStream | WindowStream, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks through a stream, its delay taken off: as many samples in all, each at its own time."""
    drop = stream.latency_samples
    for block in blocks:
        out = stream.feed(block)
        skip = min(drop, len(out))
        drop -= skip
        if skip < len(out):
            yield out[skip:]
    yield stream.flush()[drop:]


def in_blocks(samples: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Pieces of an array."""
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def enhance_file(
    path: str | Path,
    out: str | Path,
    model: Model,
    *,
    channels: Channels = "each",
    limit_db: float | None = None,
    mix: float = 1.0,
    precision: str = "float32",
    raw: RawFormat | None = None,
    resume: bool = False,
) -> Enhanced:
    """A file to a file, in constant memory: rate, channels, subtype, length, level and tags stay.

    `resume`: keep what is done beside the output, and go on there after an interruption.
    """
    if resume:
        return enhance_on(path, out, model, channels, limit_db, mix, raw)
    before = after = 0.0
    count = 0
    words: dict[str, Any] = {"channels": channels, "limit_db": limit_db, "mix": mix}
    with open_sound(path, raw) as sound:
        stream = file_stream(model, sound.rate, sound.channels, precision=precision, **words)
        kept = 1 if channels == "mono" else sound.channels
        with writing(out, sound, channels=kept) as writer:

            def heard() -> Iterator[np.ndarray]:
                nonlocal before, count
                for block in sound.blocks(int(PIECE_S * sound.rate)):
                    before += float(np.square(block).sum()) / sound.channels
                    count += len(block)
                    yield block

            for block in through(stream, heard()):
                after += float(np.square(block).sum()) / kept
                writer.write(block)
            limited = writer.limited
    change = 10 * np.log10((before + 1e-12) / (after + 1e-12))
    form, db = (sound.rate, sound.channels), round(float(change), 2)
    return Enhanced(str(path), str(out), *form, count / sound.rate, limited, db, sound.remarks)


def enhance_on(
    path: str | Path,
    out: str | Path,
    model: Model,
    channels: Channels,
    limit_db: float | None,
    mix: float,
    raw: RawFormat | None,
) -> Enhanced:
    """`enhance_file` that can be interrupted: see `speech.resume`."""
    with open_sound(path, raw) as sound:
        stream = open_stream(model, sound.rate, sound.channels, channels=channels, limit_db=limit_db, mix=mix)
        kept = 1 if channels == "mono" else sound.channels
        about = seen(path, model) | {"channels": channels, "limit_db": limit_db, "mix": mix}
        with Journal(out, kept, about) as journal:
            facts = {"before": 0.0, "after": 0.0, "count": 0, "drop": stream.latency_samples, **journal.facts}
            if journal.state is not None:
                stream.load_state(journal.state)

            def keep(block: np.ndarray) -> None:
                skip = min(int(facts["drop"]), len(block))
                facts["drop"] -= skip
                facts["after"] += float(np.square(block[skip:]).sum()) / kept
                journal.write(block[skip:])

            done = journal.pieces
            for number, block in enumerate(sound.blocks(int(PIECE_S * sound.rate))):
                if number < done:
                    continue
                facts["before"] += float(np.square(block).sum()) / sound.channels
                facts["count"] += len(block)
                keep(stream.feed(block))
                journal.save(stream.state(), facts)
            keep(stream.flush())
            with writing(out, sound, channels=kept) as writer:
                for block in journal.blocks(BLOCK):
                    writer.write(block)
                limited = writer.limited
            journal.remove()
    change = 10 * np.log10((facts["before"] + 1e-12) / (facts["after"] + 1e-12))
    form, db = (sound.rate, sound.channels), round(float(change), 2)
    return Enhanced(str(path), str(out), *form, facts["count"] / sound.rate, limited, db, sound.remarks)


def separate_file(
    path: str | Path,
    out: list[Path],
    model: Model,
    *,
    consistent: bool = True,
    gate_db: float | None = GATE_DB,
    precision: str = "float32",
    passes: int | None = None,
    raw: RawFormat | None = None,
    resume: bool = False,
) -> Separated:
    """A mixture to one file for each talker, in constant memory.

    `resume`: keep what is done beside the first output, and go on there after an interruption.
    """
    words: dict[str, Any] = {"consistent": consistent, "gate_db": gate_db, "precision": precision}
    words["passes"] = passes_of(model) if passes is None else passes
    with open_sound(path, raw) as sound, ExitStack() as files:
        remarks = list(sound.remarks)
        if sound.channels > 1:
            remarks.append(f"{path}: {sound.channels} channels were averaged.")
        stream = separation_stream(model, sound.rate, count=isinstance(model.network, SeparateNet), **words)
        writers = [files.enter_context(writing(target, sound, channels=1)) for target in out]
        about = {**seen(path, model), **words}
        kept = Journal(out[0], model.talkers, about) if resume else Spool(out[0], model.talkers)
        with kept:
            keep_tracks(sound, stream, kept)
            levels = Levels(model.talkers, max(1, sound.rate // 50))
            for tracks in stream.sorted_out(block.T for block in kept.blocks(BLOCK)):
                levels.hear(tracks)
                for writer, track in zip(writers, tracks, strict=True):
                    writer.write(track)
            limited = sum(writer.limited for writer in writers)
        files.close()
        if isinstance(kept, Journal):
            kept.remove()
    who = speaking(np.repeat(np.concatenate(levels.found, 1), 2, axis=1), 100)
    segments = [
        {"talker": k + 1, "begin_s": low, "end_s": high} for k, part in enumerate(who) for low, high in part
    ]
    talkers = stream.talkers_heard(who)
    if talkers < model.talkers:
        remarks.append(f"{path}: {talkers or 'no'} talker{'' if talkers == 1 else 's'} found.")
    elif talkers > model.talkers:
        remarks.append(f"{path}: {talkers} or more talkers are heard; {model.talkers} tracks hold them all.")
    return Separated(
        str(path),
        [str(target) for target in out],
        sound.rate,
        levels.heard / sound.rate,
        limited,
        talkers,
        sorted(segments, key=lambda part: (part["begin_s"], part["talker"])),
        remarks,
    )


def seen(path: str | Path, model: Model) -> dict[str, Any]:
    """What makes a half-done work another one: the file as it is, the weights, the size of pieces."""
    file = Path(path).stat()
    return {
        "path": str(path),
        "bytes": file.st_size,
        "time": file.st_mtime_ns,
        "weights": model.name,
        "piece": PIECE_S,
        "form": 2,
    }


class Levels:
    """Standard deviations of tracks (S, n) over pieces of `hop` samples: levels without an offset."""

    def __init__(self, talkers: int, hop: int) -> None:
        self.hop, self.heard = hop, 0
        self.rest = np.zeros((talkers, 0), np.float32)
        self.found: list[np.ndarray] = []

    def hear(self, tracks: np.ndarray) -> None:
        """The next samples."""
        self.heard += tracks.shape[1]
        self.rest = np.concatenate([self.rest, tracks], 1)
        whole = self.rest.shape[1] // self.hop * self.hop
        parts = self.rest[:, :whole].reshape(len(self.rest), -1, self.hop)
        self.found.append(parts.std(-1))
        self.rest = self.rest[:, whole:]


def keep_tracks(sound: Sound, stream: SeparateStream, kept: Journal | Spool) -> None:
    """A recording through a separation stream, from where what is kept stands on."""
    if isinstance(kept, Journal) and kept.state is not None:
        stream.load_state(kept.state)
    done = kept.pieces
    for number, block in enumerate(sound.blocks(int(PIECE_S * sound.rate))):
        if number < done:
            continue
        kept.write(stream.feed(block.mean(1)).T)
        if isinstance(kept, Journal):
            kept.save(stream.state(), {})
    kept.write(stream.flush().T)
