"""The one training loop. A domain brings a model, a step, batches and a validation; the loop does the rest.

    outcome = train(model, step, batches, LoopOptions(epochs=5), Path("runs/a"),
                    validate=validate, score="fde", settings=to_dict(config), seed=0, card=card)

Everything random is a function of (seed, epoch, rank) or is in the checkpoint, so a run that is killed and
resumed ends with the same bits as one that was left alone (same machine, threads and number of processes).
"""

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from core.errors import ConfigError
from core.training.batches import Batches
from core.training.card import commit, write_card
from core.training.checkpoint import kept_generators, seed_generators
from core.training.distributed import join, told_of_loss
from core.training.folder import keep_settings, locked, open_run
from core.training.frozen import held, matching
from core.training.interrupt import interruption
from core.training.learner import AfterStep, Step
from core.training.log import MetricsLog, progress
from core.training.options import LoopOptions
from core.training.run import WEIGHTS, Finish, Run, Validation
from core.training.sharded import own_rows
from core.training.start import PARENT, Parent, Start
from core.weights import UNFINISHED, Card, load, load_into

UNDONE = "Unfinished"
CLOCK = "time was over; the run can be resumed"
"""Row of card.md of a run that the clock stopped."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. The model has its best weights, which are in the file `weights` with `card`."""

    weights: Path
    card: Card
    score: float
    """The best value of the score, as it is."""
    epoch: int
    """The epoch it was reached in, from 1; 0: the weights that the run started from."""
    epochs: int
    steps: int
    seconds: float
    """Wall time of all sessions together."""
    stopped: str
    """Why: "epochs", "steps", "patience", "clock" (as planned) or "time" (then `resume` goes on)."""
    stages: "tuple[Outcome, ...]" = ()
    """Of `train_stages`: how each stage ended that was begun, the last one too."""

    def as_dict(self) -> dict[str, Any]:
        """What `train --json` writes."""
        return {
            "run": str(self.weights.parent),
            "weights": str(self.weights),
            "score": self.score,
            "figures": dict(self.card.score),
            "epoch": self.epoch,
            "epochs": self.epochs,
            "steps": self.steps,
            "seconds": self.seconds,
            "stopped": self.stopped,
        }

    def lines(self) -> list[str]:
        """The same for people."""
        told = [
            str(self.weights),
            f"best in epoch {self.epoch} of {self.epochs}: {self.score:.5g}",
            *(f"  {name:<12} {value:.4g}" for name, value in self.card.score.items()),
            f"{self.steps:,} steps in {self.seconds:.0f} s, ended by {self.stopped}",
        ]
        if self.stopped == "time":
            told.append(f"time was over after {self.steps:,} steps; go on with --resume")
        return told


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
    resume: bool | str = False,
    quiet: bool = False,
    start: str | Path | Start | None = None,
    finish: Finish | None = None,
    after_step: AfterStep | None = None,
    learns: tuple[str, ...] = ("*",),
    began: float | None = None,
) -> Outcome:
    """Train `model` in place into the run folder `out`, and leave it with its best weights.

    Args:
        validate: model -> named figures, in the first process; (model, place) -> in all of them.
        score: the figure of `validate` to minimise, or "-name" to maximise; without validation, the mean over
            an epoch of what `step` gives.
        settings: the domain's resolved settings.
        card: what the run is about; the loop fills in settings, score and commit. Batches are moved to the
            model's device.
        start: weights to begin from. They are validated before the first step and count as the best so far.
        resume: whether a run is there to go on with; "auto": go on if there is one, else begin.
        finish: best weights -> what belongs into their card. Called in the first process when the run is
            over; until then the card says "unfinished". Weights of a run that the clock stopped have it too,
            and the run goes on from them as they were before.
        after_step: called with the model and the steps taken after every change of the weights.
        learns: patterns of the parameters that learn; modules of others alone stay in evaluation.
        began: `time.monotonic()` of the session's begin, which `max_minutes` counts from; None: now.

    Raises:
        ConfigError: a run is there and `resume` is off, or none and it is on; other settings than the run was
            begun with; `finish` for a model whose tables are dealt out.
        WorkError: the loss or the score is not finite; a worker died.
        WeightsError: the checkpoint or the start is damaged or of another model.
        KeyboardInterrupt: asked to stop (Ctrl-C, SIGTERM); the checkpoint is up to date.
    """
    out = Path(out)
    device = next(model.parameters()).device
    place = join(device, options.patience_s)
    frozen = [group.pattern for group in options.learner.groups if group.freeze]
    idle = matching(model, frozen, "the parameter group")
    if tuple(learns) != ("*",):
        idle |= {name for name, _ in model.named_parameters()} - matching(model, learns, "learns")
    own_workers = getattr(batches, "workers", None)
    if options.workers is not None and own_workers is not None:
        batches.workers = options.workers  # pyright: ignore[reportAttributeAccessIssue]
    parent = None if start is None else Parent(start)
    with told_of_loss(place), kept_generators(device), held(model, idle), ExitStack() as stack:
        asked = stack.enter_context(interruption())  # from here on a wish to stop is heeded after a step
        seed_generators(seed + 7919 * place.rank)
        origin = {"settings": settings, "loop": asdict(options), "seed": seed, "processes": place.world}
        if parent is not None:
            origin["start"] = parent.sha256
            about = parent.put_into(model)
            card = replace(card, extra={**card.extra, PARENT: about})
        if finish is not None:
            card = replace(card, extra={**card.extra, UNFINISHED: "the run is still going on"})
        run = Run(model, options, batches, place, out, origin, score)
        if finish is not None and run.learner.shards:
            raise ConfigError(
                "what follows training asks one process for the whole model; tables are dealt out."
            )
        if began is not None:
            run.began = began
        state = place.agree(lambda: open_run(out, origin, resume))
        place.agree(lambda: stack.enter_context(locked(out)))
        if state is not None:
            run.restore(state)
            place.agree(lambda: keep_settings(out, settings))
        card = replace(card, settings=dict(settings), score=run.at.best_figures, commit=commit())
        log = MetricsLog(out, run.at.judged, options.tensorboard) if place.first else None
        try:
            with progress(run.total, run.at.step, quiet or not place.first) as show:
                if parent is not None and run.at.judged < 0 and validate is not None:
                    row, card = run.judge(validate, card)
                    if log:
                        log.add(run.close_epoch(row))
                    run.keep()
                while (stopped := run.ended()) is None:
                    run.advance(step, after_step, show, asked)
                    if run.due:
                        row, card = run.judge(validate, card)
                        row = run.close_epoch(row)
                        if log:
                            log.add(row)
                    run.keep()
                if stopped == "time" and options.plan.clock:
                    stopped = "clock"
                if not math.isfinite(run.at.best):
                    run.save_unjudged(validate, card)
        finally:
            run.stream = None
            getattr(batches, "close", lambda: None)()
            if own_workers is not None:
                batches.workers = own_workers  # pyright: ignore[reportAttributeAccessIssue]
        if finish is not None:
            run.finish(finish, CLOCK if stopped == "time" else None)
        if place.first:
            facts = run.facts()
            if stopped == "time":
                facts[UNDONE] = CLOCK
            write_card(
                out / "card.md", replace(card, score=card.score or load(out / WEIGHTS)[1].score), facts
            )
        place.share(None)  # by now the first process has written every file
    tensors, card = load(out / WEIGHTS)
    load_into(model, own_rows(model, tensors))
    at = run.at
    return Outcome(
        weights=out / WEIGHTS,
        card=card,
        score=card.score.get(run.score, math.nan),
        epoch=at.best_epoch,
        epochs=at.epoch,
        steps=at.step,
        seconds=at.seconds,
        stopped=stopped,
    )
