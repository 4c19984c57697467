"""Training of a predictor on generated flights and on files, split by flight."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apps.trajectory.balls import fit_balls
from apps.trajectory.config import TrainConfig
from apps.trajectory.conformal import Calibration
from apps.trajectory.loss import ball_loss, distance_loss, forecast_loss
from apps.trajectory.models.forecast import Forecast
from apps.trajectory.models.predictor import Predictor
from apps.trajectory.pools import (
    LEVEL,
    LEVELS,
    STREAM_HISTORY,
    Batch,
    Cut,
    MakeWindows,
    gather,
    joined,
    pooled,
    shared_out,
    windows_of,
    yardstick,
)
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

CHECKED = 1000
"""Windows of a source that choose the best epoch, at most."""
CHUNK = 4096
"""Windows of one forward pass when nothing is learned."""

REFINE_LR = 3e-3
REFINE_SHARE = 0.6
"""Share of the families of motion where the spread alone is learned."""
FRESH = 1000
"""Added to the seed of the flights that the spread is learned on: the mean has never seen them, as it will
not have seen those that it is asked about."""
CALIBRATED = "calibration"
"""Key of the conformal factors in the card of a finished run."""


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
    history = config.window.history
    longest = STREAM_HISTORY if config.model.stateful else history
    pools = pooled(sources.train, config, longest)
    sizes = {name: len(pool) for name, pool in pools.items()}
    make = MakeWindows(config, pools, sources.yards)
    check = {
        name: part.thinned(1 + len(part.windows) // CHECKED)
        for name, part in windows_of(sources.validation, config).items()
    }
    together = joined(check.values(), history)

    def validate(model: nn.Module) -> dict[str, float]:
        losses, spreads, begin = {}, [], 0
        forecast = forecast_all(model, together.windows[:, :history], together.lines)
        for name, (windows, _) in check.items():
            past, future, part = (
                windows[:, :history],
                windows[:, history:],
                slice(begin, begin + len(windows)),
            )
            begin += len(windows)
            level = torch.full((len(windows),), LEVELS.get(name, LEVEL))
            measure = yardstick(past, sources.yards.get(name, torch.zeros(1)), config.window.dt)
            losses[f"loss_{name}"] = distance_loss(forecast.mean[part], future, measure).item()
            gaps = future - forecast.mean[part]
            spreads.append(ball_loss(gaps, forecast.spread[part], level).item())
        mine = [loss for name, loss in losses.items() if name.removeprefix("loss_") in sources.yards]
        rest = [loss for name, loss in losses.items() if name.removeprefix("loss_") not in sources.yards]
        halves = [float(np.mean(part)) for part in (mine, rest) if part]
        return {"loss": float(np.mean(halves)), "spread": float(np.mean(spreads)), **losses}

    def finish(model: nn.Module) -> dict[str, Any]:
        if isinstance(model, Predictor) and model.grains and config.balls:
            unseen = fresh(config)
            own = {name: part for name, part in sources.train.items() if name not in made}
            families = {**own, **gather(unseen, ()).train}
            fit_balls(model, windows_of(families, unseen), config.balls, unseen.seed)
        calibration = calibrate(model, windows_of(sources.calibration, config), config)
        return {} if calibration is None else {CALIBRATED: calibration.as_dict()}

    made = {*sources.yards, *(name for name in sources.train if name.startswith("generated"))}
    judged = validate if check else None
    shares = shared_out(config, sizes, sources.yards)
    batches = DrawnBatches(config.steps, config.batch, make, config.seed, shares=shares)
    stages = [Stage("flight", learn(config), batches, config.loop, validate=judged)]
    if config.model.head != "point":
        unseen = fresh(config)
        others = {**pools, **pooled(gather(unseen, ()).train, unseen, longest)}
        sizes = {name: len(pool) for name, pool in others.items()}
        shares = shared_out(unseen, sizes, sources.yards)
        stages.append(
            Stage(
                "spread",
                refine(config),
                DrawnBatches(
                    config.refine,
                    config.batch,
                    MakeWindows(config, others, sources.yards),
                    unseen.seed,
                    shares=shares,
                ),
                refine_options(config),
                learns=("outer.*", "tilt.*", "wide.*", "widen.*", "grain.*") if model.mixes else ("outer.*",),
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


def learn(config: TrainConfig) -> Any:
    """The step of the first stage: one batch -> loss."""

    def step(model: nn.Module, batch: Batch) -> Tensor:
        past, future, level, yard, through = batch
        return forecast_loss(model(past, through), future, yardstick(past, yard, config.window.dt), level)

    return step


def refine(config: TrainConfig) -> Any:
    """The step of the second stage. In the first the mean comes first and the spread follows it slowly; here
    the mean is a number to the loss, so the rows of the read-out that make it get no gradient."""
    whole = {} if config.model.stateful else {"both": True}

    def step(model: nn.Module, batch: Batch) -> Tensor:
        past, future, level, yard, through = batch
        forecast = model(past, through, **whole)
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


def fresh(config: TrainConfig) -> TrainConfig:
    """The same for other flights, a quarter of them and none held back, with more of the families."""
    generated, motions = config.data.generated // 4, config.data.motions
    share = max(config.data.motion_share, min(REFINE_SHARE, 1 - config.data.real_share))
    data = replace(config.data, generated=generated, motions=motions, motion_share=share)
    return replace(config, seed=config.seed + FRESH, data=replace(data, validation=0.0, calibration=0.0))


@torch.no_grad()
def forecast_all(model: nn.Module, past: Tensor, through: Tensor | None = None) -> Forecast:
    """Mean and spread of many windows, piece by piece on the model's device, back on the CPU."""
    device = next(model.parameters()).device
    lines = [None] * len(past) if through is None else through.to(device).split(CHUNK)
    pieces = [
        model(piece.to(device), line).cpu() for piece, line in zip(past.split(CHUNK), lines, strict=False)
    ]
    return Forecast(
        torch.cat([piece.mean for piece in pieces]), torch.cat([piece.spread for piece in pieces])
    )


def calibrate(model: nn.Module, windows: Mapping[str, Cut], config: TrainConfig) -> Calibration | None:
    """Conformal factors from windows of held-out flights; every source has the same say.

    Each source has factors of its own, and the median of them is taken: of all scores together a quantile
    would be lowered by the sources whose ball is as small as a ball can be, and holds everything. Sources
    with a margin in `LEVELS` would take it back and are left out where there are others.
    """
    windows = {name: part for name, part in windows.items() if name not in LEVELS} or windows
    model.eval()
    history, own = config.window.history, []
    for part in windows.values():
        forecast = forecast_all(model, part.windows[:, :history], part.lines)
        error = (forecast.mean - part.windows[:, history:]).norm(dim=-1)
        own.append(Calibration.fit((error / forecast.spread).numpy()))
    if not own:
        return None
    factors = np.median([found.factors for found in own], axis=0)
    return Calibration(factors, sum(found.count for found in own))


def describe(config: TrainConfig, data: Sequence[str | Path]) -> Card:
    """What the weights are, in words."""
    names = [Path(source).name for source in data]
    sources = [f"{config.data.generated} generated flights"] if config.data.generated else []
    if config.data.motions and config.model.dims in (2, 3):
        sources.append(f"{config.data.motions} tracks of each family of motion")
    sources += names
    network = config.model.encoder if config.model.encoder == "transformer" else config.model.unit
    return Card(
        task="trajectory",
        unit=network,
        data=", ".join(sources) + "; split by flight",
        terms="generated data: none" if not names else "generated data: none; files: their own terms",
    )
