"""Training of a predictor on generated flights and on files, split by flight."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from apps.trajectory.augment import augment
from apps.trajectory.config import AugmentConfig, TrainConfig
from apps.trajectory.conformal import Calibration
from apps.trajectory.data import Track, flights, read_many, resample, split_by_flight
from apps.trajectory.features import SPEED_FLOOR, velocities
from apps.trajectory.loss import ball_loss, distance_loss, forecast_loss
from apps.trajectory.mixture import candidates
from apps.trajectory.models.forecast import Forecast
from apps.trajectory.models.predictor import Predictor
from apps.trajectory.synth import curriculum
from core.errors import ConfigError, DataError
from core.training import (
    DrawnBatches,
    LoopOptions,
    Outcome,
    ScheduleOptions,
    Stage,
    check_folder,
    local_device,
    train_stages,
)
from core.training.start import Start
from core.weights import Card

STREAM_HISTORY = 40
"""Longest prefix of a stream in training, in positions."""
FEW = 10
"""Flights below which a source keeps none of them for validation."""
LEVEL = 0.9
"""Share of errors that the spread is fitted to hold, times `BALL`."""
LEVELS = {"generated free": 0.96}
"""Real flight surprises more than a generator's free flight: a margin, measured and not derived."""
CHECKED = 1000
"""Windows of a source that choose the best epoch, at most."""
YARD, NEAR_M = 10.0, 0.03
"""An error as large as that of the best simple method costs a tenth; nobody asks for less than 3 cm."""
CHUNK = 2048
"""Windows of one forward pass when nothing is learned."""

REFINE_STEPS, REFINE_LR = 1500, 3e-3
CALIBRATED = "calibration"
"""Key of the conformal factors in the card of a finished run."""

Segments = list[np.ndarray]
"""Evenly sampled pieces of flights, float32 (n, D)."""


class Pool:
    """Every window of a length in evenly sampled segments, drawn by number."""

    def __init__(self, segments: Iterable[np.ndarray], length: int) -> None:
        kept = [segment for segment in segments if len(segment) >= length]
        self.length = length
        starts = np.cumsum([0, *[len(segment) for segment in kept]])
        counts = [len(segment) - length + 1 for segment in kept]
        firsts = [np.arange(start, start + count) for start, count in zip(starts, counts, strict=False)]
        self.positions = torch.from_numpy(np.concatenate(kept)) if kept else torch.zeros(0, 1)
        self.firsts = torch.from_numpy(np.concatenate(firsts)) if kept else torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.firsts)

    def draw(self, count: int, generator: Generator) -> Tensor:
        """(count, length, D), each window with the same chance."""
        chosen = self.firsts[torch.randint(len(self), (count,), generator=generator)]
        return self.positions[chosen[:, None] + torch.arange(self.length)]

    def every(self, stride: int) -> Tensor:
        """(n, length, D), every `stride`-th window."""
        return self.positions[self.firsts[::stride, None] + torch.arange(self.length)]


@dataclass(frozen=True)
class Sources:
    """Segments by the file or folder they come from, each flight in one part only."""

    train: dict[str, Segments]
    validation: dict[str, Segments]
    calibration: dict[str, Segments]
    yards: dict[str, Tensor]
    """(K,) metres a second that the errors of a source are measured in; absent: the speed of each window."""


class Windows:
    """Makes a batch: windows of every source, augmented. A class of a module, so it travels to workers."""

    def __init__(self, config: TrainConfig, pools: dict[str, Pool], yards: Mapping[str, Tensor]) -> None:
        self.config, self.pools, self.yards = config, pools, yards
        self.longest = STREAM_HISTORY if config.model.stateful else config.window.history

    def __call__(
        self, counts: Mapping[str, int], generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Past (B, T, D), future (B, K, D), level of the ball (B,), yardstick (B, K) or 0 for the speed."""
        config, longest = self.config, self.longest
        some = {name: count for name, count in counts.items() if count}
        yaw = config.model.frame == "none"
        drawn = []
        for changes, mine in ((config.augment, False), (gentle(config.augment), True)):
            names = [name for name in some if (name in self.yards) == mine]
            if names:
                part = torch.cat([self.pools[name].draw(some[name], generator) for name in names])
                drawn.append(augment(part, longest, changes, generator, yaw=yaw))
        windows = torch.cat(drawn)
        names = sorted(some, key=lambda name: name in self.yards)
        level = torch.cat([torch.full((some[name],), LEVELS.get(name, LEVEL)) for name in names])
        none = torch.zeros(config.window.horizon)
        yard = torch.cat([self.yards.get(name, none).expand(some[name], -1) for name in names])
        keep = longest
        if config.model.stateful or torch.rand((), generator=generator) < config.augment.shorten:
            keep = int(torch.randint(config.augment.shortest, longest + 1, (), generator=generator))
        return windows[:, longest - keep : longest], windows[:, longest:], level, yard


def gentle(config: AugmentConfig) -> AugmentConfig:
    """For families of motions, which are drawn as wide as they should be: their mirror images alone."""
    return replace(config, flip=0.0, reverse=0.0, scale=0.0, noise=0.0, gaps=0.0)


def train(
    config: TrainConfig,
    out: str | Path,
    data: Sequence[str | Path] = (),
    *,
    device: str = "cpu",
    start: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train into the run folder `out` on generated flights and the given files or folders.

    First everything learns; then the read-out of the spread once more, with the mean and all below it held.
    The best weights end in `out/model.safetensors`, and the conformal calibration in their card in the same
    write. Gives how the first stage ended.

    Args:
        device: cpu, cuda or cuda:N; under torchrun cuda is this process's own.
        start: weights to begin from, a bundled name, a file or a run folder; what they lack stays new.

    Raises:
        ConfigError: settings that contradict each other or the data, or no such device.
        DataError: a file cannot be read.
    """
    check_folder(out, resume)
    with torch.random.fork_rng(devices=[]):  # first: a wrong name must not cost the making of all flights
        torch.manual_seed(config.seed)
        model = Predictor(config.model, config.window)
    model.to(local_device(device))
    sources = gather(config, data)
    history, horizon = config.window.history, config.window.horizon
    longest = STREAM_HISTORY if config.model.stateful else history
    pools = {name: Pool(part, longest + horizon) for name, part in sources.train.items()}
    shares = shared_out(config, {name: len(pool) for name, pool in pools.items()}, sources.yards)
    make = Windows(config, pools, sources.yards)
    check = {
        name: part[:: 1 + len(part) // CHECKED]
        for name, part in windows_of(sources.validation, config).items()
    }

    def validate(model: nn.Module) -> dict[str, float]:
        losses, spreads = {}, []
        for name, windows in check.items():
            past, future = windows[:, :history], windows[:, history:]
            forecast = forecast_all(model, past)
            level = torch.full((len(windows),), LEVELS.get(name, LEVEL))
            measure = yardstick(past, sources.yards.get(name, torch.zeros(1)), config.window.dt)
            losses[f"loss_{name}"] = distance_loss(forecast.mean, future, measure).item()
            spreads.append(ball_loss(future - forecast.mean, forecast.spread, level).item())
        mine = [loss for name, loss in losses.items() if name.removeprefix("loss_") in sources.yards]
        rest = [loss for name, loss in losses.items() if name.removeprefix("loss_") not in sources.yards]
        halves = [float(np.mean(part)) for part in (mine, rest) if part]
        return {"loss": float(np.mean(halves)), "spread": float(np.mean(spreads)), **losses}

    def finish(model: nn.Module) -> dict[str, Any]:
        calibration = calibrate(model, windows_of(sources.calibration, config), config)
        return {} if calibration is None else {CALIBRATED: calibration.as_dict()}

    judged = validate if check else None
    batches = DrawnBatches(config.steps, config.batch, make, config.seed, shares=shares)
    stages = [Stage("flight", learn(config), batches, config.loop, validate=judged)]
    if config.model.head != "point":
        steps = min(REFINE_STEPS, config.steps * config.loop.epochs)
        stages.append(
            Stage(
                "spread",
                refine(config),
                DrawnBatches(steps, config.batch, make, config.seed + REFINE_STEPS, shares=shares),
                refine_options(config),
                learns=("outer.*", "tilt.*", "wide.*", "widen.*") if model.mixes else ("outer.*",),
                score="spread" if judged else "loss",
                validate=judged,
            )
        )
    outcome = train_stages(
        model,
        stages,
        out,
        settings=asdict(config),
        seed=config.seed,
        card=describe(config, data),
        start=None if start is None else Start(start, part=True),
        resume=resume,
        quiet=quiet,
        finish=finish,
    )
    first = outcome.stages[0]
    seconds = sum(stage.seconds for stage in outcome.stages)
    return replace(
        first, weights=outcome.weights, card=outcome.card, stopped=outcome.stopped, seconds=seconds
    )


Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Past, future, level of its ball, yardstick."""


def learn(config: TrainConfig) -> Any:
    """The step of the first stage: one batch -> loss."""

    def step(model: nn.Module, batch: Batch) -> Tensor:
        past, future, level, yard = batch
        return forecast_loss(model(past), future, yardstick(past, yard, config.window.dt), level)

    return step


def refine(config: TrainConfig) -> Any:
    """The step of the second stage. In the first the mean comes first and the spread follows it slowly; here
    the mean is a number to the loss, so the rows of the read-out that make it get no gradient."""
    whole = {} if config.model.stateful else {"both": True}

    def step(model: nn.Module, batch: Batch) -> Tensor:
        past, future, level, yard = batch
        forecast = model(past, **whole)
        forecast = replace(forecast, mean=forecast.mean.detach())
        loss = ball_loss(future - forecast.mean, forecast.spread, level)
        return loss + 0.1 * forecast_loss(forecast, future, yardstick(past, yard, config.window.dt), level)

    return step


def refine_options(config: TrainConfig) -> LoopOptions:
    """A short run down to a rate of zero; what a person may change without changing a result is theirs."""
    return LoopOptions(
        epochs=1,
        lr=REFINE_LR,
        optimizer="adam",
        weight_decay=0.0,
        schedule=ScheduleOptions("linear", warmup=0.0),
        clip=None,
        precision=config.loop.precision,
        max_minutes=config.loop.max_minutes,
        checkpoint_steps=config.loop.checkpoint_steps,
        workers=config.loop.workers,
        tensorboard=config.loop.tensorboard,
    )


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
        for name, group in curriculum.motions(
            config.data.motions, config.model.dims, config.window.dt, config.seed
        ):
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
    cut = Pool(group, history + horizon).every(config.window.stride).double()
    past, future = cut[:, :history], cut[:, history:]
    answers = past[:, -1:, None] + candidates(past - past[:, -1:], dt, horizon).transpose(1, 2)
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


def windows_of(parts: dict[str, Segments], config: TrainConfig) -> dict[str, Tensor]:
    """Windows (n, history + horizon, D) of each source at the evaluation stride; empty sources left out."""
    pools = {
        name: Pool(pieces, config.window.history + config.window.horizon) for name, pieces in parts.items()
    }
    return {name: pool.every(config.window.stride) for name, pool in pools.items() if len(pool)}


@torch.no_grad()
def forecast_all(model: nn.Module, past: Tensor) -> Forecast:
    """Mean and spread of many windows, piece by piece on the model's device, back on the CPU."""
    device = next(model.parameters()).device
    pieces = [model(piece.to(device)).cpu() for piece in past.split(CHUNK)]
    return Forecast(
        torch.cat([piece.mean for piece in pieces]), torch.cat([piece.spread for piece in pieces])
    )


def calibrate(model: nn.Module, windows: dict[str, Tensor], config: TrainConfig) -> Calibration | None:
    """Conformal factors from windows of held-out flights; every source has the same say.

    A source with more windows than the smallest is thinned evenly. Sources with a margin in `LEVELS` would
    take it back and are left out where there are others.
    """
    if not windows:
        return None
    windows = {name: part for name, part in windows.items() if name not in LEVELS} or windows
    model.eval()
    history, scores = config.window.history, []
    fewest = max(200, min(len(part) for part in windows.values()))
    for part in windows.values():
        part = part[:: max(1, len(part) // fewest)]
        forecast = forecast_all(model, part[:, :history])
        error = (forecast.mean - part[:, history:]).norm(dim=-1)
        scores.append((error / forecast.spread).numpy())
    return Calibration.fit(np.concatenate(scores))


def describe(config: TrainConfig, data: Sequence[str | Path]) -> Card:
    """What the weights are, in words."""
    names = [Path(source).name for source in data]
    sources = ([f"{config.data.generated} generated flights"] if config.data.generated else []) + names
    network = config.model.encoder if config.model.encoder == "transformer" else config.model.unit
    return Card(
        task="trajectory",
        unit=network,
        data=", ".join(sources) + "; split by flight",
        terms="generated data: none" if not names else "generated data: none; files: their own terms",
    )
