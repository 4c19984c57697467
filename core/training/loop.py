"""The one training loop. A domain brings a model, a step, batches and a validation; the loop does the rest.

    outcome = train(model, step, batches, LoopOptions(epochs=5), Path("runs/a"),
                    validate=validate, score="fde", settings=to_dict(config), seed=0, card=card)

Everything random is a function of (seed, epoch, rank) or is in the checkpoint, so a run that is killed and
resumed ends with the same bits as one that was left alone (same machine, threads and number of processes).
"""

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.training.batches import Batches
from core.training.card import commit, write_card
from core.training.checkpoint import kept_generators, rng_states, save_state, seed_generators, set_rng_states
from core.training.distributed import Place, join
from core.training.folder import STATE, open_run
from core.training.interrupt import interruption
from core.training.learner import Learner, Step, add
from core.training.log import MetricsLog, Show, progress
from core.training.options import LoopOptions
from core.weights import Card, load, load_into, save

Validation = Callable[[nn.Module], Mapping[str, float]]
"""Model in evaluation mode -> named figures. Runs in the first process only."""

CHECKED = 20  # steps between looks at the loss; a look waits for the GPU


@dataclass
class Position:
    """Where a run stands."""

    epoch: int = 0  # finished epochs
    done: int = 0  # steps of the epoch that is going on
    step: int = 0  # steps in all
    seconds: float = 0.0  # of all sessions
    best: float = math.inf
    best_epoch: int = 0
    best_figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How a run ended. The model has its best weights, which are in the file `weights` with `card`."""

    weights: Path
    card: Card
    score: float
    """The best value of what was minimised."""
    epoch: int
    """The epoch it was reached in, from 1."""
    epochs: int
    steps: int
    seconds: float
    """Wall time of all sessions together."""
    stopped: str
    """Why: "epochs", "steps", "patience" or "time"."""


def train(
    model: nn.Module,
    step: Step,
    batches: Batches,
    options: LoopOptions,
    out: str | Path,
    *,
    validate: Validation | None = None,
    score: str = "loss",
    settings: Mapping[str, Any],
    seed: int,
    card: Card,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train `model` in place into the run folder `out`, and leave it with its best weights.

    `score` names the figure of `validate` to minimise; without validation, the mean over an epoch of what
    `step` gives. `settings` are the domain's resolved settings and `card` says what the run is about; the
    loop fills in settings, score and commit. Batches are moved to the model's device.

    Raises:
        ConfigError: a run is there and `resume` is off, or none and it is on; other settings than the run was
            begun with; the loss or the score is not finite.
        WeightsError: the checkpoint is damaged or of another model.
        KeyboardInterrupt: Ctrl-C was pressed; the checkpoint is up to date.
    """
    out = Path(out)
    device = next(model.parameters()).device
    place = join(device)
    with kept_generators(device):
        seed_generators(seed + 7919 * place.rank)
        origin = {"settings": settings, "loop": asdict(options), "seed": seed, "processes": place.world}
        run = Run(model, options, batches, place, out, origin)
        state = place.agree(lambda: open_run(out, origin, resume))
        if state is not None:
            run.restore(state)
        card = replace(card, settings=dict(settings), score=run.at.best_figures, commit=commit())
        log = MetricsLog(out, run.at.epoch, options.tensorboard) if place.first else None
        with (
            progress(run.total, run.at.step, quiet or not place.first) as show,
            interruption(place.world == 1) as interrupted,
        ):
            while (stopped := run.ended()) is None:
                run.epoch(step, show, interrupted)
                row, card = run.judge(validate, score, card)
                if run.epoch_is_over:
                    row = run.close_epoch(row)
                    if log:
                        log.add(row)
                run.keep()
        if place.first:
            write_card(out / "card.md", card, run.facts())
        place.share(None)  # by now the first process has written every file
    tensors, card = load(out / "model.safetensors")
    load_into(model, tensors)
    at = run.at
    return Outcome(
        weights=out / "model.safetensors",
        card=card,
        score=at.best,
        epoch=at.best_epoch,
        epochs=at.epoch,
        steps=at.step,
        seconds=at.seconds,
        stopped=stopped,
    )


class Run:
    """A run that is going on: the learner, where it stands, what the steps of this epoch gave."""

    def __init__(
        self,
        model: nn.Module,
        options: LoopOptions,
        batches: Batches,
        place: Place,
        out: Path,
        origin: Mapping[str, Any],
    ) -> None:
        self.model, self.options, self.batches = model, options, batches
        self.place, self.out, self.origin = place, out, origin
        self.per_epoch = batches.count(place.world) // options.accumulate
        if not self.per_epoch:
            raise ConfigError(f"an epoch has fewer batches than accumulate = {options.accumulate} asks for.")
        self.total = min(options.epochs * self.per_epoch, options.max_steps or sys.maxsize)
        self.learner = Learner(model, options, self.total, place)
        self.at = Position()
        self.sums: dict[str, Tensor] = {}
        self.began = time.monotonic()
        self.earlier = 0.0  # seconds of the sessions before this one
        self.late = False

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint: weights, optimiser, position, generators."""
        device = self.learner.device
        self.learner.load_state_dict(state["learner"])
        self.at = Position(**state["position"])
        self.sums = {name: total.to(device) for name, total in state["sums"][self.place.rank].items()}
        self.earlier = self.at.seconds
        set_rng_states(state["generators"][self.place.rank], device)

    def ended(self) -> str | None:
        """Why there is no further epoch, if so."""
        at, patience = self.at, self.options.patience
        if at.step >= self.total:
            return "epochs" if at.epoch == self.options.epochs else "steps"
        if patience is not None and at.epoch - at.best_epoch >= patience:
            return "patience"
        return "time" if self.late else None

    def epoch(self, step: Step, show: Show, interrupted: Callable[[], bool]) -> None:
        """Take the steps that are left of the epoch, or of the time that this session has."""
        options, at, place = self.options, self.at, self.place
        self.model.train()
        stream = self.batches.epoch(at.epoch, place.rank, place.world, at.done * options.accumulate)
        while not self.epoch_is_over and not self.late:
            add(self.sums, self.learner.update(step, stream, at.step))
            at.done += 1
            at.step += 1
            show(at.step, f"epoch {at.epoch + 1}/{options.epochs}", lambda: self.means()["loss"])
            if at.step % CHECKED == 0:
                self.means()
            if interrupted():
                self.keep()
                raise KeyboardInterrupt
            if options.checkpoint_steps and at.step % options.checkpoint_steps == 0:
                self.keep()
            if options.max_minutes is not None:
                self.late = place.share(time.monotonic() - self.began >= 60 * options.max_minutes)

    @property
    def epoch_is_over(self) -> bool:
        return self.at.done == self.per_epoch or self.at.step >= self.total

    def means(self) -> dict[str, float]:
        """Means over this epoch of what the steps gave, in this process.

        Raises:
            ConfigError: the loss is not finite.
        """
        means = {name: total.item() / self.at.done for name, total in self.sums.items()}
        if not math.isfinite(means.get("loss", 0.0)):
            raise ConfigError(
                f"the loss became {means['loss']} in epoch {self.at.epoch + 1}, by step {self.at.step}. "
                f"Lower lr (now {self.options.lr:g}), or look for NaN in the data."
            )
        return means

    def judge(self, validate: Validation | None, score: str, card: Card) -> tuple[dict[str, float], Card]:
        """Validate, save the weights if they are the best so far; gives figures for the log, and the card."""
        at = self.at
        trained = self.place.mean(self.means())
        with self.learner.averaged():
            figures = trained if validate is None else self.place.agree(lambda: self.validated(validate))
            if score not in figures:
                raise ValueError(f"score {score!r} is not among the figures {', '.join(figures)}")
            if figures[score] < at.best:
                at.best, at.best_epoch, at.best_figures = figures[score], at.epoch + 1, figures
                card = replace(card, score=figures)
                if self.place.first:
                    save(self.out / "model.safetensors", self.model, card)
        if not at.best_epoch:
            raise ConfigError(f"{score} is {figures[score]} after epoch {at.epoch + 1}; lower lr?")
        row = {f"train_{name}": value for name, value in trained.items()}
        return row if validate is None else row | {
            f"val_{name}": value for name, value in figures.items()
        }, card

    def validated(self, validate: Validation) -> dict[str, float]:
        """The domain's figures, without a trace in the run's generators."""
        self.model.eval()
        with torch.no_grad(), kept_generators(self.learner.device):
            return {name: float(value) for name, value in validate(self.model).items()}

    def close_epoch(self, figures: dict[str, float]) -> dict[str, float]:
        """Go on to the next epoch; gives the row of the one that ends."""
        at = self.at
        at.epoch += 1
        at.done = 0
        self.sums = {}
        row = {"epoch": at.epoch, "step": at.step, "lr": self.learner.rate, **figures}
        return row | {"seconds": round(self.seconds(), 3)}

    def keep(self) -> None:
        """Write the checkpoint; a state with a loss that is not finite never replaces a good one."""
        self.means()
        self.at.seconds = self.seconds()
        everyone = self.place.gather((self.sums, rng_states(self.learner.device)))
        if self.place.first:
            save_state(
                self.out / STATE,
                self.origin,
                {
                    "learner": self.learner.state_dict(),
                    "position": asdict(self.at),
                    "sums": [sums for sums, _ in everyone],
                    "generators": [generators for _, generators in everyone],
                },
            )

    def seconds(self) -> float:
        """Wall time of all sessions."""
        return self.earlier + time.monotonic() - self.began

    def facts(self) -> dict[str, str]:
        """What the card tells about the run itself."""
        device, at = self.learner.device, self.at
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        processes = f"{self.place.world} process{'es' if self.place.world > 1 else ''}"
        return {
            "Best epoch": f"{at.best_epoch} of {at.epoch}",
            "Steps": f"{at.step:,}",
            "Seed": str(self.origin["seed"]),
            "Wall time": f"{at.seconds:.1f} s",
            "Machine": f"{name}, {processes}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        }
