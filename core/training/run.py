"""A run that is going on: the learner, where it stands, what its steps gave, its best weights."""

import inspect
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError, WorkError
from core.files import write_bytes
from core.training.batches import Batches, mix
from core.training.checkpoint import kept_generators, rng_states, save_state, seed_generators, set_rng_states
from core.training.distributed import Place
from core.training.folder import BEST, STATE
from core.training.frozen import train_mode
from core.training.interrupt import Stopped
from core.training.learner import AfterStep, Learner, Step, Sums, means, merged
from core.training.log import Show
from core.training.options import LoopOptions
from core.training.sharded import whole_state
from core.weights import UNFINISHED, Card, load, load_into, save

Validation = Callable[[nn.Module], Mapping[str, float]] | Callable[[nn.Module, Place], Mapping[str, float]]
"""Model in evaluation mode -> named figures. Runs in the first process alone; one that takes (model, place)
runs in all, so that they can share the work, and counts as the first one's answer."""
Finish = Callable[[nn.Module], Mapping[str, Any]]
"""Best weights -> what belongs into the card beside them, such as a calibration. It may change them. Called
when the run is over, and when the clock stops it: then again, from the untouched weights, at the true end."""

WEIGHTS = "model.safetensors"
CHECKED = 20  # steps between looks at the loss and at wishes to stop; a look waits for the GPU


@dataclass
class Position:
    """Where a run stands."""

    epoch: int = 0  # finished epochs
    done: int = 0  # steps of the epoch that is going on
    step: int = 0  # steps in all
    looked: int = 0  # steps at the last look at the loss
    judged: int = -1  # steps at the last validation
    rate: float = 0.0  # of the last step, before slow_factor
    seconds: float = 0.0  # of all sessions
    best: float = math.inf  # lower is better
    best_epoch: int = 0
    best_figures: dict[str, float] = field(default_factory=dict)
    bad: int = 0  # validations without progress
    height: float = 1.0  # what plateaus and explosions have left of the rate
    skipped: int = 0  # batches without anything to learn
    recovered: int = 0  # explosions
    lost: int = 0  # steps that were taken back


class Run:
    """Takes steps, judges, writes; everything it knows is in the checkpoint."""

    def __init__(
        self,
        model: nn.Module,
        options: LoopOptions,
        batches: Batches,
        place: Place,
        out: Path,
        origin: Mapping[str, Any],
        score: str = "loss",
    ) -> None:
        self.model, self.options, self.batches = model, options, batches
        self.place, self.out, self.origin = place, out, origin
        self.score, self.sign = score.removeprefix("-"), -1.0 if score.startswith("-") else 1.0
        self.per_epoch = batches.count(place.world) // options.accumulate
        if not self.per_epoch:
            raise ConfigError(f"an epoch has fewer batches than accumulate = {options.accumulate} asks for.")
        self.total = min(options.epochs * self.per_epoch, options.max_steps or sys.maxsize)
        self.learner = Learner(model, options, self.total, place)
        self.at = Position()
        self.stream: Any = None
        self.sums: Sums = {}  # of this epoch, up to the last look
        self.fresh: Sums = {}  # since then
        self.skips = 0  # since then, in this process
        self.began = time.monotonic()
        self.earlier = 0.0  # seconds of the sessions before this one
        self.late = False
        self.heeded, self.heeded_step, self.next_heed = self.began, 0, 0
        # What an explosion before the first validation goes back to.
        self.first = copied(model) if options.recovery.times else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint: weights, optimisers, position, generators."""
        device, own = self.learner.device, state["processes"][self.place.rank]
        self.learner.load_state_dict(own.get("learner", state["learner"]))
        self.at = Position(**state["position"])
        self.sums = {name: both.to(device) for name, both in own["sums"].items()}
        self.fresh = {name: both.to(device) for name, both in own["fresh"].items()}
        self.skips = own["skips"]
        self.earlier = self.at.seconds
        self.place.agree(self.unfinish)
        set_rng_states(own["generators"], device)

    def ended(self) -> str | None:
        """Why there is no further step, if so."""
        at, patience = self.at, self.options.patience
        if at.step >= self.total and not self.due:
            return "epochs" if at.epoch == self.options.epochs else "steps"
        if patience is not None and not at.done and at.epoch - at.best_epoch >= patience:
            return "patience"
        return "time" if self.late and not self.due else None

    @property
    def planned(self) -> int:
        """The step of the plan that the schedule is at: the one to take, or the clock's if that is ahead."""
        minutes = self.options.max_minutes
        if not self.options.plan.clock or minutes is None:
            return self.at.step
        passed = self.place.share(self.seconds()) / (60 * minutes)
        return min(self.total - 1, max(self.at.step, int(self.total * passed)))

    @property
    def epoch_is_over(self) -> bool:
        return self.at.done == self.per_epoch or (self.at.step >= self.total and self.at.done > 0)

    @property
    def due(self) -> bool:
        """Whether it is time to judge."""
        at, every = self.at, self.options.validate_steps
        if at.judged >= at.step:
            return False
        if self.late and self.options.plan.clock:
            return True
        return self.epoch_is_over or bool(every and at.step and at.step % every == 0)

    def advance(self, step: Step, after_step: AfterStep | None, show: Show, asked: Callable[[], int]) -> None:
        """Take steps until it is time to judge, or this session has no time left."""
        options, at, place = self.options, self.at, self.place
        train_mode(self.model)
        if self.stream is None:
            start = at.done * options.accumulate
            self.stream = self.batches.epoch(at.epoch, place.rank, place.world, start)
        while not self.due and not self.late:
            sums, skips, changed = self.learner.update(step, self.stream, self.planned, at.height)
            self.fresh = merged([self.fresh, sums])
            self.skips += skips
            at.done += 1
            at.step += 1
            at.rate = self.learner.rate
            if changed:
                if after_step is not None:
                    with torch.no_grad():
                        after_step(self.model, at.step)
                self.learner.end_step()
            show(
                at.step,
                f"epoch {at.epoch + 1}/{options.epochs}",
                lambda: self.trained().get("loss", math.nan),
            )
            if at.step % CHECKED == 0 or self.due:
                self.look()
            self.heed(asked)
            if options.checkpoint_steps and at.step % options.checkpoint_steps == 0:
                self.keep()

    def heed(self, asked: Callable[[], int]) -> None:
        """Stop where somebody has asked for it or time is over, in all processes after the same step.

        Several processes ask each other about every two seconds, at most `CHECKED` steps apart.
        """
        at, now, minutes = self.at, time.monotonic(), self.options.max_minutes
        if at.step < self.next_heed:
            return
        spent = self.seconds() if self.options.plan.clock else now - self.began
        over = minutes is not None and spent >= 60 * minutes
        pace = (now - self.heeded) / max(1, at.step - self.heeded_step)
        everyone = self.place.gather((asked(), over, pace))
        self.heeded, self.heeded_step = now, at.step
        pause = int(2 / max(1e-3, max(pace for _, _, pace in everyone))) if self.place.world > 1 else 1
        self.next_heed = at.step + min(CHECKED, max(1, pause))
        wish = next((wish for wish, _, _ in everyone if wish), 0)
        over = everyone[0][1]
        if (not wish and not over) or self.exploded():
            return  # after an explosion the look that goes back comes first
        if wish:
            self.keep()
            text = f"stopped after step {at.step}; go on with resume=True."
            raise Stopped(text if self.place.first else "", wish)
        self.late = True

    def trained(self) -> dict[str, float]:
        """Means over this epoch of what the steps gave, in this process."""
        return means(merged([self.sums, self.fresh]))

    def exploded(self) -> bool:
        """Whether the loss since the last look is not finite, or above what was allowed, in some process."""
        loss, above = means(self.fresh).get("loss"), self.options.recovery.above
        bad = loss is not None and (not math.isfinite(loss) or (above is not None and loss > above))
        return self.place.any(bad)[0]

    def look(self) -> None:
        """Take the last steps as good, or go back to the best weights.

        Raises:
            WorkError: the loss exploded, and the run may not go back (any more).
        """
        at = self.at
        if self.exploded():
            self.go_back()
        else:
            self.sums = merged([self.sums, self.fresh])
            at.skipped += sum(self.place.gather(self.skips))
            self.fresh, self.skips = {}, 0
            at.looked = at.step

    def go_back(self) -> None:
        """Leave the steps since the last look out, and go on from the best weights at a lower rate."""
        at, recovery = self.at, self.options.recovery
        if at.recovered >= recovery.times:
            raise self.divergence()
        at.recovered += 1
        at.lost += at.step - at.looked
        at.height *= recovery.factor
        at.looked = at.step
        self.fresh, self.skips = {}, 0
        self.restart()
        self.keep()  # a kill before the next one would find better "best weights" than it went back to

    def divergence(self) -> WorkError:
        """What to say of a loss that exploded."""
        at, loss = self.at, means(self.fresh).get("loss", math.nan)
        again = f" after going back {at.recovered} times" if at.recovered else ""
        return WorkError(
            f"the loss became {loss:g}{again} in epoch {at.epoch + (at.done > 0)}, by step {at.step}. "
            f"Lower lr (now {self.options.lr:g}), or look for NaN in the data."
        )

    def restart(self) -> None:
        """Best weights, fresh moments."""
        self.place.share(None)  # the first process may still be writing them
        best = load(self.out / WEIGHTS)[0] if math.isfinite(self.at.best) else self.first
        self.learner.restart(best)

    def judge(self, validate: Validation | None, card: Card) -> tuple[dict[str, float], Card]:
        """Validate, save the weights if they are the best so far; gives figures for the log, and the card.

        Raises:
            WorkError: the score has never been finite.
        """
        at = self.at
        trained = self.means()
        at.judged = at.step
        with self.learner.averaged():
            figures = trained if validate is None else self.validated(validate)
            if not figures and not at.lost:
                raise WorkError(f"every batch of epoch {at.epoch + 1} had nothing to learn.")
            if not figures:  # every step of the epoch was taken back
                return {}, card
            score = self.sign * self.scored(figures)
            if score < at.best:
                at.best, at.best_epoch, at.best_figures = score, at.epoch + (at.done > 0), figures
                at.bad = 0
                card = replace(card, score=figures)
                self.save(card)
            else:
                at.bad += 1
        if not math.isfinite(at.best):
            raise WorkError(f"{self.score} is {figures[self.score]} after epoch {at.epoch + 1}; lower lr?")
        self.descend()
        row = {f"train_{name}": value for name, value in trained.items()}
        return row if validate is None else row | {
            f"val_{name}": value for name, value in figures.items()
        }, card

    def scored(self, figures: Mapping[str, float]) -> float:
        """The figure that the run is judged by."""
        if self.score not in figures:
            raise ValueError(f"score {self.score!r} is not among the figures {', '.join(figures)}")
        return figures[self.score]

    def means(self) -> dict[str, float]:
        """Means over this epoch of what the steps gave in all processes."""
        if self.place.world == 1:
            return self.trained()
        sums = merged([self.sums, self.fresh])
        everyone = self.place.gather({name: both.cpu() for name, both in sums.items()})
        return means(merged(everyone))

    def descend(self) -> None:
        """On a plateau: best weights back, and a lower rate."""
        at, plan = self.at, self.options.plan
        if plan.name == "plateau" and at.bad >= plan.patience:
            at.bad = 0
            at.height = max(plan.floor, at.height * plan.factor)
            self.restart()

    def save(self, card: Card) -> None:
        """Write the weights that the model has, in the first process; rows of dealt tables come together."""
        source = whole_state(self.model) if self.learner.shards else self.model
        self.place.agree(lambda: save(self.out / WEIGHTS, source, card))

    def validated(self, validate: Validation) -> dict[str, float]:
        """The domain's figures, without a trace in the run's generators."""
        self.model.eval()

        def figures(*words: Any) -> dict[str, float]:
            with torch.no_grad(), kept_generators(self.learner.device):
                return {name: float(value) for name, value in validate(self.model, *words).items()}

        if "place" in inspect.signature(validate).parameters:
            return self.place.share(figures(self.place))
        return self.place.agree(figures)

    def close_epoch(self, figures: dict[str, float]) -> dict[str, float]:
        """Go on to the next epoch, if this one is over; gives the row of the log.

        The row of a validation inside an epoch has a fraction for its epoch.
        """
        at = self.at
        if self.epoch_is_over:
            at.epoch += 1
            at.done = 0
            self.sums = {}
            self.stream = None
        epoch = at.epoch if not at.done else round(at.epoch + at.done / self.per_epoch, 4)
        row = {"epoch": epoch, "step": at.step, "lr": at.rate, **figures}
        return row | {"seconds": round(self.seconds(), 3)}

    def keep(self) -> None:
        """Write the checkpoint. A state with a loss that is not finite never replaces a good one.

        Raises:
            WorkError: the loss exploded, and the run may not go back (any more).
        """
        if self.exploded():
            if self.at.recovered >= self.options.recovery.times:
                raise self.divergence()
            return  # the next look goes back
        self.at.seconds = self.seconds()
        own = {
            "sums": self.sums,
            "fresh": self.fresh,
            "skips": self.skips,
            "generators": rng_states(self.learner.device),
        }
        if self.learner.shards:
            own["learner"] = self.learner.state_dict()  # with the rows of this process
        everyone = self.place.gather(own)
        if self.place.first:
            learner = None if self.learner.shards else self.learner.state_dict()
            state = {"learner": learner, "position": asdict(self.at), "processes": everyone}
            save_state(self.out / STATE, self.origin, state)

    def save_unjudged(self, validate: Validation | None, card: Card) -> None:
        """Leave weights where time was over before the first validation; the run does not count them."""
        with self.learner.averaged():
            figures = self.means() if validate is None else self.validated(validate)
            self.save(replace(card, score=figures))

    def finish(self, finish: Finish, undone: str | None = None) -> None:
        """For the best weights: add to their card what `finish` finds, in one write.

        After a kill in between it runs again, with the same bits. `undone` says why the run is not over: the
        weights as they were are kept for `unfinish`, and the card stays an unfinished one.
        """

        def act() -> None:
            tensors, card = load(self.out / WEIGHTS)
            if UNFINISHED not in card.extra:
                return
            if undone is not None:
                write_bytes(self.out / BEST, (self.out / WEIGHTS).read_bytes())
            load_into(self.model, tensors)
            self.model.eval()
            save(
                self.out / WEIGHTS,
                self.model,
                finished(self.model, card, finish, self.origin["seed"], undone),
            )

        self.place.agree(act)

    def unfinish(self) -> None:
        """Take back what `finish` did to the weights of a run that goes on."""
        if (self.out / BEST).exists():
            os.replace(self.out / BEST, self.out / WEIGHTS)

    def seconds(self) -> float:
        """Wall time of all sessions."""
        return self.earlier + time.monotonic() - self.began

    def facts(self) -> dict[str, str]:
        """What the card tells about the run itself."""
        device, at = self.learner.device, self.at
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        processes = f"{self.place.world} process{'es' if self.place.world > 1 else ''}"
        facts = {"Best epoch": f"{at.best_epoch} of {at.epoch}", "Steps": f"{at.step:,}"}
        if at.skipped:
            facts["Skipped"] = f"{at.skipped:,} batches with nothing to learn"
        if at.recovered:
            facts["Explosions"] = (
                f"{at.recovered}, {at.lost:,} steps taken back, lr at {at.height:g} of its height"
            )
        facts["Seed"] = str(self.origin["seed"])
        facts["Wall time"] = f"{at.seconds:.1f} s"
        facts["Machine"] = (
            f"{name}, {processes}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        )
        return facts


def finished(model: nn.Module, card: Card, finish: Finish, seed: int, undone: str | None = None) -> Card:
    """The card of a model with what `finish` finds, which draws from generators of its own."""
    seed_generators(mix(seed, 5))
    found = dict(finish(model))
    extra = {name: value for name, value in card.extra.items() if name != UNFINISHED}
    return replace(card, extra=extra | found | ({} if undone is None else {UNFINISHED: undone}))


def copied(model: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers of a model, as they are now."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
