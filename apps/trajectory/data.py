"""Tracks on disk -> evenly sampled segments -> windows of history and future; splits by flight."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from apps.trajectory.dense import between, is_dense, of_the_path, straight, through_all
from apps.trajectory.track import SUFFIXES, Track
from core.errors import DataError
from core.jobs import Input, gather

GAP_S, GAP_STEPS = 0.5, 5.0
"""A step longer than both is a gap."""
SLOWER = 1.25
"""Data whose steps are less than so much longer than a model's are as fine as the model."""

__all__ = [
    "Segment",
    "Track",
    "Windows",
    "flights",
    "inputs",
    "read_many",
    "read_tracks",
    "resample",
    "resample_many",
    "split_by_flight",
    "windows",
]


@dataclass(frozen=True)
class Segment:
    """An unbroken stretch of a track on an even clock: sample k is at t0 + k dt."""

    track: Track
    t0: float
    """Seconds on the track's clock."""
    dt: float
    positions: np.ndarray
    """(n, D) float64."""
    through: np.ndarray | None = None
    """(n, 2, 2, D) lines through all samples of a recorder that is faster than dt, see `dense`."""

    def __len__(self) -> int:
        return len(self.positions)


@dataclass(frozen=True)
class Windows:
    """Histories with their futures, cut from segments."""

    past: np.ndarray
    """(n, history, D)."""
    future: np.ndarray
    """(n, horizon, D)."""
    segment: np.ndarray
    """(n,) index of the segment that a window comes from."""
    start: np.ndarray
    """(n,) index of a window's first sample in its segment."""
    warnings: tuple[str, ...] = ()
    """Segments that were too short to give a window."""

    def __len__(self) -> int:
        return len(self.past)


def read_tracks(
    path: str | Path,
    *,
    format: str | None = None,
    columns: Mapping[str, str] | None = None,
    time_unit: str | None = None,
    group: Sequence[str] | None = None,
    rate: float | None = None,
    times: str | Path | None = None,
    frame: str | None = None,
) -> list[Track]:
    """Every track of one file; what is not told is detected.

    Args:
        format: a name of `formats.FORMATS`.
        columns: our name -> the file's, such as {"t": "time", "x": "px", "y": "py", "z": "pz"}; also vx, vy,
            vz, lat, lon, alt. Columns without names are "0", "1", ...
        time_unit: s, ms, us, ns or iso.
        group: columns that tell tracks apart, all of them together.
        rate: samples per second, for files without times.
        times: file of times beside a file of KITTI poses.
        frame: enu (as written), ned (north, east, down) or camera (right, down, forward).

    Raises:
        DataError: the file is missing, is none of the formats, or has no usable track.
    """
    from apps.trajectory.formats import Options, read

    mapping = dict(columns) if columns else None
    groups = tuple(group) if group else None
    options = Options(format, mapping, time_unit, groups, rate, Path(times) if times else None, frame)
    return read(Path(path), options)


def read_many(paths: str | Path | Iterable[str | Path], **options: Any) -> list[Track]:
    """Tracks of files, of the track files in folders (at any depth), and of globs such as `logs/**/*.csv`.

    Args:
        options: as of `read_tracks`, the same for all.
    """
    found = inputs([paths] if isinstance(paths, str | Path) else paths)
    return [track for item in found for track in read_tracks(item.path, **options)]


def inputs(words: Iterable[str | Path]) -> list[Input]:
    """The files that paths, folders, globs and `-` (a list on stdin) stand for, in order of name.

    Raises:
        DataError: nothing is there.
    """
    # KITTI's file of times lies beside its poses and is no track
    return gather(words, SUFFIXES, keep=lambda file: not file.name.removesuffix(".gz").endswith("times.txt"))


def in_order(time_s: np.ndarray) -> np.ndarray:
    """Indices that sort by time; of equal stamps the last one in the file is kept."""
    order = np.argsort(time_s, kind="stable")
    ordered = time_s[order]
    return order[np.append(ordered[1:] != ordered[:-1], True)] if len(order) else order


def rhythm(time_s: np.ndarray, dt: float = 0.1) -> float:
    """The step that follows the data: the median step of its samples, and `dt` where they are as fine.

    A window of step d is one of step dt with all lengths times dt / d: a model of one rhythm answers all.
    """
    steps = np.diff(time_s)
    steps = steps[steps > 0]
    usual = float(np.median(steps)) if len(steps) else dt
    if usual <= SLOWER * dt:
        return dt
    return float(f"{usual:.3g}")  # what a clock jitters by is no step


def gap(step: float, max_gap: float | None = None) -> float:
    """Seconds above which nothing is drawn across: as told, or half a second and five steps."""
    return max(GAP_S, GAP_STEPS * step) if max_gap is None else max_gap


def stretches(track: Track, max_gap: float | None = None, step: float | None = None) -> list[Track]:
    """A track in time order, cut where a step is longer than the gap; `step` None: its own rhythm."""
    order = in_order(track.time_s)
    time_s, positions = track.time_s[order], track.positions[order]
    velocities = None if track.velocities is None else track.velocities[order]
    cuts = np.flatnonzero(np.diff(time_s) > gap(step or rhythm(time_s), max_gap)) + 1
    return [
        replace(
            track,
            time_s=time_s[begin:end],
            positions=positions[begin:end],
            velocities=None if velocities is None else velocities[begin:end],
        )
        for begin, end in pairwise([0, *cuts.tolist(), len(time_s)])
        if begin < end
    ]


def resample(
    track: Track, dt: float = 0.1, max_gap: float | None = None, *, follow: bool = False
) -> list[Segment]:
    """Interpolation on t0 + k dt inside every stretch without a step longer than `max_gap` seconds.

    Every stretch gives a segment, however short; `windows` says which were too short for it.

    Args:
        max_gap: None: half a second and five steps.
        follow: a stretch of slower samples keeps their step, see `rhythm`, and its gaps are five of those;
            of a faster one the lines through all samples come along. The path between samples is curved by
            velocities of the file that agree with its positions, or by its own bends; else it is straight.
    """
    if not (dt > 0 and math.isfinite(dt) and (max_gap is None or max_gap > 0)):
        raise ValueError(f"dt and max_gap must be positive, got {dt} and {max_gap}")
    segments = []
    for piece in stretches(track, max_gap, None if follow else dt):
        t, step = piece.time_s, rhythm(piece.time_s, dt) if follow else dt
        # the last stamp of an even file falls short of its own grid by a rounding
        count = math.floor((t[-1] - t[0]) / step + 1e-6) + 1
        grid = t[0] + step * np.arange(count)
        curved = of_the_path(t, piece.positions, piece.velocities) if follow else None
        at = np.minimum(grid, t[-1])
        even = between(t, piece.positions, curved, at) if follow else straight(t, piece.positions, at)
        lines = through_all(t, piece.positions, grid, step) if follow and is_dense(t, step) else None
        segments.append(Segment(track, float(t[0]), step, even, lines))
    return segments


def resample_many(
    tracks: Iterable[Track], dt: float = 0.1, max_gap: float | None = None, *, follow: bool = False
) -> list[Segment]:
    """Segments of all tracks, in order."""
    return [segment for track in tracks for segment in resample(track, dt, max_gap, follow=follow)]


def windows(segments: Sequence[Segment], history: int = 21, horizon: int = 20, stride: int = 5) -> Windows:
    """Every `stride`-th window of history + horizon samples of every segment, pooled.

    Raises:
        DataError: the segments differ in dimension or sampling step.
    """
    if history < 1 or horizon < 0 or stride < 1:
        raise ValueError(
            f"history and stride must be positive, horizon not negative: {history}, {stride}, {horizon}"
        )
    kinds = {(segment.positions.shape[1], segment.dt) for segment in segments}
    if len(kinds) > 1:
        kind = " and ".join(f"{dims} axes every {dt:g} s" for dims, dt in sorted(kinds)[:2])
        raise DataError(f"these tracks cannot be pooled: {kind}.")
    length = history + horizon
    dims = kinds.pop()[0] if kinds else 3
    pieces, owners, starts, short = [np.empty((0, length, dims))], [], [], []
    for index, segment in enumerate(segments):
        if len(segment) < length:
            short.append(segment)
            continue
        views = np.lib.stride_tricks.sliding_window_view(segment.positions, length, axis=0)[::stride]
        pieces.append(views.transpose(0, 2, 1))
        owners.append(np.full(len(views), index))
        starts.append(stride * np.arange(len(views)))
    both = np.concatenate(pieces)
    empty = np.empty(0, dtype=np.int64)
    return Windows(
        both[:, :history],
        both[:, history:],
        np.concatenate(owners) if owners else empty,
        np.concatenate(starts) if starts else empty,
        tuple(about_short(short, history, length)),
    )


def about_short(short: Sequence[Segment], history: int, length: int) -> list[str]:
    """One sentence per track about its segments that gave no window."""
    counts: dict[str, list[int]] = {}
    for segment in short:
        counts.setdefault(segment.track.name, []).append(len(segment))
    sentences = []
    for name, sizes in counts.items():
        mute = sum(size < history + 1 for size in sizes)
        what = f"{len(sizes)} segment{'s' * (len(sizes) > 1)} shorter than the {length} samples of a window"
        sentences.append(f"{name}: {what}" + (f", {mute} of them without even a history." if mute else "."))
    return sentences


Item = TypeVar("Item", Track, Segment)


def flights(items: Iterable[Track | Segment]) -> dict[str, list[int]]:
    """Flight -> indices of the tracks (or segments) that recorded it, in order of first appearance."""
    found: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        track = item.track if isinstance(item, Segment) else item
        found.setdefault(track.flight, []).append(index)
    return found


def split_by_flight(
    items: Sequence[Item], seed: int = 0, fractions: Sequence[float] = (0.8, 0.1, 0.1)
) -> tuple[list[Item], ...]:
    """Disjoint parts such that no physical flight is in two of them.

    Flights are shuffled by the seed and dealt out by their count of samples, so a part's share of
    data is near its fraction.
    Every part with a positive fraction gets a flight while there are enough.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if not len(shares) or not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise ValueError(f"fractions must not be negative and not all zero, got {tuple(fractions)}")
    shares = shares / shares.sum()
    groups = list(flights(items).values())
    weights = [sum(max(len(items[index]), 1) for index in group) for group in groups]
    filled = np.zeros(len(shares))
    counts = np.zeros(len(shares), dtype=int)
    parts: list[list[int]] = [[] for _ in shares]
    total = sum(weights)
    remaining = len(groups)
    for choice in np.random.default_rng(seed).permutation(len(groups)):
        need = shares * total - filled
        need[shares == 0] = -np.inf
        unserved = (counts == 0) & (shares > 0)
        if remaining <= unserved.sum():  # just enough flights left to serve every empty part once
            need[~unserved] = -np.inf
        part = int(np.argmax(need))
        parts[part] += groups[choice]
        filled[part] += weights[choice]
        counts[part] += 1
        remaining -= 1
    return tuple([items[index] for index in sorted(part)] for part in parts)
