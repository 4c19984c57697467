"""What training draws from: generated flights, families of motion and files, split by flight.

A segment is a table (n, D) of even positions, or (n, 5 D) where a faster recorder's lines (`mixture.lines`,
through all of its samples) stand behind each position.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from apps.trajectory.augment import augment
from apps.trajectory.config import AugmentConfig, TrainConfig
from apps.trajectory.data import Track, flights, read_many, resample, split_by_flight
from apps.trajectory.features import velocities
from apps.trajectory.measures import SPEED_FLOOR
from apps.trajectory.mixture import candidates, lines
from apps.trajectory.synth import curriculum
from core.errors import ConfigError, DataError

STREAM_HISTORY = 40
"""Longest prefix of a stream in training, in positions."""
FEW = 10
"""Flights below which a source keeps none of them for validation."""
LEVEL = 0.9
"""Share of errors that the spread is fitted to hold, times `BALL`."""
LEVELS = {"generated free": 0.94}
"""Real flight surprises more than a generator's free flight: a margin, measured and not derived."""
YARD, NEAR_M = 10.0, 0.03
"""An error as large as that of the best simple method costs a tenth; nobody asks for less than 3 cm."""
YARDED = 400
"""Tracks of a family that its yardstick is taken from, at most."""

Segments = list[np.ndarray]
"""Evenly sampled pieces of flights, float32 (n, D)."""


class Cut(NamedTuple):
    """Windows, and what a faster recorder says of where their histories end."""

    windows: Tensor
    """(n, length, D)"""
    lines: Tensor | None = None
    """(n, 2, 2, D) `mixture.lines` through all samples."""

    def thinned(self, stride: int) -> "Cut":
        """Every `stride`-th of them."""
        return Cut(self.windows[::stride], None if self.lines is None else self.lines[::stride])


class Pool:
    """Every window of a length in evenly sampled segments, drawn by number.

    Args:
        history: positions before the future begins, where the lines of a fast recorder are taken.
        dims: coordinates of a position; None: all columns of the segments.
    """

    def __init__(
        self, segments: Iterable[np.ndarray], length: int, history: int = 1, dims: int | None = None
    ) -> None:
        kept = [segment for segment in segments if len(segment) >= length]
        self.length, self.history = length, history
        starts = np.cumsum([0, *[len(segment) for segment in kept]])
        counts = [len(segment) - length + 1 for segment in kept]
        firsts = [np.arange(start, start + count) for start, count in zip(starts, counts, strict=False)]
        table = torch.from_numpy(np.concatenate(kept)) if kept else torch.zeros(0, dims or 1)
        dims = dims or table.shape[1]
        self.positions = table[:, :dims].contiguous()
        self.lines = table[:, dims:].unflatten(1, (2, 2, dims)) if table.shape[1] > dims else None
        self.firsts = torch.from_numpy(np.concatenate(firsts)) if kept else torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.firsts)

    def at(self, firsts: Tensor) -> Cut:
        lines = None if self.lines is None else self.lines[firsts + self.history - 1]
        return Cut(self.positions[firsts[:, None] + torch.arange(self.length)], lines)

    def draw(self, count: int, generator: Generator) -> Cut:
        """Windows, each with the same chance."""
        return self.at(self.firsts[torch.randint(len(self), (count,), generator=generator)])

    def every(self, stride: int) -> Cut:
        """Every `stride`-th window."""
        return self.at(self.firsts[::stride])


@dataclass(frozen=True)
class Sources:
    """Segments by the file or folder they come from, each flight in one part only."""

    train: dict[str, Segments]
    validation: dict[str, Segments]
    calibration: dict[str, Segments]
    yards: dict[str, Tensor]
    """(K,) metres a second that the errors of a source are measured in; absent: the speed of each window."""


class Batch(NamedTuple):
    """One batch of training."""

    past: Tensor
    """(B, T, D)"""
    future: Tensor
    """(B, K, D)"""
    level: Tensor
    """(B,) share of outcomes that the ball is to hold."""
    yard: Tensor
    """(B, K) yardstick, 0 for the speed of the window."""
    through: Tensor
    """(B, 2, 2, D) `mixture.lines`."""


class MakeWindows:
    """Makes a batch: windows of every source, augmented. A class of a module, so it travels to workers."""

    def __init__(self, config: TrainConfig, pools: dict[str, Pool], yards: Mapping[str, Tensor]) -> None:
        self.config, self.pools, self.yards = config, pools, yards
        self.longest = STREAM_HISTORY if config.model.stateful else config.window.history

    def __call__(self, counts: Mapping[str, int], generator: Generator) -> Batch:
        """So many windows of each source."""
        config, longest = self.config, self.longest
        some = {name: count for name, count in counts.items() if count}
        yaw = config.model.frame == "none"
        names, drawn, dense = [], [], []
        for changes, mine in ((config.augment, False), (gentle(config.augment), True)):
            group = [name for name in some if (name in self.yards) == mine and self.pools[name].lines is None]
            names += group
            if group:
                part = torch.cat([self.pools[name].draw(some[name], generator).windows for name in group])
                drawn.append(augment(part, longest, changes, generator, yaw=yaw))
        for name in some:  # as they are: their lines would have to be changed alike
            if self.pools[name].lines is not None:
                names.append(name)
                part, through = self.pools[name].draw(some[name], generator)
                drawn.append(part - part[:, longest - 1 : longest])
                dense.append(through)
        windows = torch.cat(drawn)
        level = torch.cat([torch.full((some[name],), LEVELS.get(name, LEVEL)) for name in names])
        none = torch.zeros(config.window.horizon)
        yard = torch.cat([self.yards.get(name, none).expand(some[name], -1) for name in names])
        keep = longest
        if config.model.stateful or torch.rand((), generator=generator) < config.augment.shorten:
            keep = int(torch.randint(config.augment.shortest, longest + 1, (), generator=generator))
        past = windows[:, longest - keep : longest]
        through = lines(past)
        if dense and keep == longest:  # a shorter history has fewer samples of a fast recorder, too
            fine = torch.cat(dense)
            through[len(through) - len(fine) :] = fine
        return Batch(past, windows[:, longest:], level, yard, through)


def gentle(config: AugmentConfig) -> AugmentConfig:
    """For families of motions, which are drawn as wide as they should be: their mirror images alone."""
    return replace(config, flip=0.0, reverse=0.0, scale=0.0, noise=0.0, gaps=0.0, drift=0.0)


def yardstick(past: Tensor, yard: Tensor, dt: float) -> Tensor:
    """What the loss divides by: yardsticks (B, K) or (K,); where 0 the speed of histories (B, T+1, D)."""
    return torch.where(yard > 0, yard, speed(past, dt)[:, None])


def speed(past: Tensor, dt: float) -> Tensor:
    """Root mean square speed of a history (B, T+1, D) with a floor, (B,)."""
    return (velocities(past, dt).square().sum(-1).mean(1) + SPEED_FLOOR**2).sqrt()


def gather(config: TrainConfig, data: Sequence[str | Path]) -> Sources:
    """Generated flights and those of files, each cut into segments and dealt to one part."""
    parts: list[dict[str, Segments]] = [{}, {}, {}]
    if config.data.generated:
        if config.model.dims > 3:
            raise ConfigError("the generator makes 2 or 3 coordinates; set data.generated=0 and give files.")
        made = curriculum.flights(config.data.generated, config.data.length, config.window.dt, config.seed)
        for kind, group in made.items():
            group = [flight[:, : config.model.dims] for flight in group]
            last = len(group) - round(len(group) * (config.data.validation + config.data.calibration))
            middle = last + round(len(group) * config.data.validation)
            for part, piece in zip(parts, (group[:last], group[last:middle], group[middle:]), strict=True):
                part[f"generated {kind}"] = piece
    yards: dict[str, Tensor] = {}
    if config.data.motions and config.model.dims in (2, 3):
        count, dims, dt = config.data.motions, config.model.dims, config.window.dt
        made = curriculum.motions(count, dims, dt, config.seed)
        if config.model.representation == "mixture" and not config.model.stateful:
            fewer = (count + 2) // 3
            made = chain(made, curriculum.dense(count, dims, dt, config.seed))
            made = chain(made, curriculum.quiet(fewer, dims, dt, config.seed))
        for name, group in made:
            last = len(group) - round(len(group) * (config.data.validation + config.data.calibration))
            middle = last + round(len(group) * config.data.validation)
            for part, piece in zip(parts, (group[:last], group[last:middle], group[middle:]), strict=True):
                part[name] = piece
            yards[name] = best_simple(group, config)
    for source in data:
        name = Path(source).name.split(".")[0]
        for part, tracks in zip(parts, deal(read_many(source), config), strict=True):
            part.setdefault(name, []).extend(segments(tracks, config))
    if not any(parts[0].values()):
        raise ConfigError("there is nothing to train on: give files, or set data.generated.")
    return Sources(parts[0], parts[1], parts[2], yards)


def best_simple(group: Segments, config: TrainConfig) -> Tensor:
    """Yardsticks of a family: what the best simple method errs by at each step, (K,) m/s."""
    history, horizon, dt = config.window.history, config.window.horizon, config.window.dt
    pool = Pool(group[:YARDED], history + horizon, history, config.model.dims)
    cut = pool.every(config.window.stride)
    past, future = cut.windows[:, :history].double(), cut.windows[:, history:].double()
    through = None if cut.lines is None else cut.lines.double()
    answers = past[:, -1:, None] + candidates(past - past[:, -1:], dt, horizon, through).transpose(1, 2)
    error = (answers - future[:, :, None]).norm(dim=-1).mean(0).min(-1).values
    ahead = dt * torch.arange(1, horizon + 1).clamp_min(3)
    return YARD * error.clamp_min(NEAR_M).float() / ahead


def deal(tracks: Sequence[Track], config: TrainConfig) -> tuple[list[Track], ...]:
    """Tracks for training, validation and calibration; a handful of flights gives none to validation."""
    validation = config.data.validation if len(flights(tracks)) >= FEW else 0.0
    calibration = config.data.calibration
    return split_by_flight(tracks, config.seed, (1 - validation - calibration, validation, calibration))


def segments(tracks: Sequence[Track], config: TrainConfig) -> Segments:
    """Evenly sampled pieces of tracks, float32, counted from where each begins."""
    pieces = []
    for track in tracks:
        if track.positions.shape[1] < config.model.dims:
            raise DataError(
                f"{track.source}: {track.positions.shape[1]} coordinates, the model has {config.model.dims}."
            )
        for piece in resample(track, config.window.dt, config.window.max_gap, follow=True):
            position = piece.positions[:, : config.model.dims]
            shrink = config.window.dt / piece.dt  # slower logs teach what their rhythm will be asked
            pieces.append(((position - position[:1]) * shrink).astype(np.float32))
    return pieces


def shared_out(
    config: TrainConfig, sizes: Mapping[str, int], yards: Mapping[str, Tensor] | None = None
) -> dict[str, float]:
    """Share of a batch for each source: `motion_share` evenly over families of motions, `real_share` evenly
    over files, the rest generated flights; what is absent leaves its share to the others."""
    some = {name: size for name, size in sizes.items() if size}
    made = {name: size for name, size in some.items() if name.startswith("generated")}
    motions = [name for name in some if name in (yards or {})]
    real = [name for name in some if name not in made and name not in motions]
    shares = {name: config.data.motion_share / len(motions) for name in motions}
    shares |= {name: config.data.real_share / len(real) for name in real}
    rest = 1 - sum(shares.values())
    shares |= {name: rest * size / sum(made.values()) for name, size in made.items()}
    total = sum(shares.values())
    if not total > 0:
        raise ConfigError("no flight is long enough for one window of history and horizon.")
    return {name: share / total for name, share in shares.items()}


def pooled(parts: Mapping[str, Segments], config: TrainConfig, history: int) -> dict[str, Pool]:
    """A pool of every source, empty ones left out."""
    length = history + config.window.horizon
    pools = {name: Pool(part, length, history, config.model.dims) for name, part in parts.items()}
    return {name: pool for name, pool in pools.items() if len(pool)}


def joined(cuts: Iterable[Cut], history: int) -> Cut:
    """All windows one after the other, with the lines of their histories where no recorder was faster."""
    some = list(cuts)
    if not some:
        return Cut(torch.zeros(0, history, 1))
    through = [lines(cut.windows[:, :history]) if cut.lines is None else cut.lines for cut in some]
    return Cut(torch.cat([cut.windows for cut in some]), torch.cat(through))


def windows_of(parts: Mapping[str, Segments], config: TrainConfig) -> dict[str, Cut]:
    """Windows of each source at the evaluation stride; empty sources left out."""
    pools = pooled(parts, config, config.window.history)
    return {name: pool.every(config.window.stride) for name, pool in pools.items()}
