"""A training of several stages, each a whole run in a folder of its own, under one `resume`.

train_stages(model, [Stage("items", step, batches, options, learns=("items.*",)),
                     Stage("state", step, batches, options, learns=("state.*",))], "runs/a", ...)

runs/a/1-items/   config.toml metrics.csv model.safetensors last/ card.md
runs/a/2-state/   the same; begins from the best weights of 1-items
runs/a/           config.toml, last and metrics.csv as links into the stage that is going on;
                  when the last is done its model.safetensors and card.md, and the rows of all in metrics.csv
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from core.config import to_toml
from core.errors import ConfigError
from core.files import write_bytes, write_text
from core.training.batches import Batches
from core.training.checkpoint import kept_generators
from core.training.distributed import join
from core.training.folder import LAST, STATE, check_folder, without_none
from core.training.learner import AfterStep, Step
from core.training.log import METRICS, read_rows, write_rows
from core.training.loop import Outcome, train
from core.training.options import LoopOptions
from core.training.run import WEIGHTS, Finish, Validation, finished
from core.training.start import Start
from core.weights import UNFINISHED, Card, load, load_into, save


@dataclass(frozen=True)
class Stage:
    """One stage; everything but its name is as in `train`."""

    name: str
    """A word for its folder."""
    step: Step
    batches: Batches
    options: LoopOptions
    learns: tuple[str, ...] = ("*",)
    """Patterns of the parameters that learn; modules of others alone stay in evaluation."""
    score: str = "loss"
    validate: Validation | None = None
    after_step: AfterStep | None = None
    prepare: Callable[[nn.Module], None] | None = None
    """What is done to the model before the stage, in every session: a switch, never a change of weights."""


def train_stages(
    model: nn.Module,
    stages: Sequence[Stage],
    out: str | Path,
    *,
    settings: Mapping[str, Any],
    seed: int,
    card: Card,
    resume: bool | str = False,
    quiet: bool = False,
    start: str | Path | Start | None = None,
    finish: Finish | None = None,
) -> Outcome:
    """Train through all stages into `out`; each begins from the best weights of the one before.

    A stage that is done is not run again. `max_minutes` counts from the begin of this call in every stage.
    `start` is for the first stage, `finish` for the last, and for the weights at the top where the clock
    stopped an earlier one.

    Raises:
        ConfigError: no stage, two of one name, or as in `train`.
        WorkError: as in `train`.
        KeyboardInterrupt: asked to stop; `resume` goes on in the stage that was going on.
    """
    out, began = Path(out), time.monotonic()
    names = [stage.name for stage in stages]
    if not stages or len(set(names)) < len(names):
        raise ConfigError(f"stages need names of their own, and there must be one; got {', '.join(names)}.")
    place = join(next(model.parameters()).device)
    folders = [out / f"{number}-{name}" for number, name in enumerate(names, 1)]
    place.agree(lambda: open_folder(out, settings, resume))
    outcomes: list[Outcome] = []
    for number, (stage, folder) in enumerate(zip(stages, folders, strict=True)):
        if stage.prepare is not None:
            stage.prepare(model)
        place.agree(partial(point, out, folder))
        outcome = train(
            model,
            stage.step,
            stage.batches,
            stage.options,
            folder,
            validate=stage.validate,
            score=stage.score,
            settings=settings,
            seed=seed + number,  # the first stage alone has the bits of a plain run
            card=card,
            resume=place.agree(folder.is_dir),
            quiet=quiet,
            start=folders[number - 1] / WEIGHTS if number else start,
            finish=finish if stage is stages[-1] else None,
            after_step=stage.after_step,
            learns=stage.learns,
            began=began,
        )
        outcomes.append(outcome)
        if outcome.stopped == "time":
            break
    number = len(outcomes)
    text = f"stopped by the clock in stage {number} of {len(stages)}, {names[number - 1]}"
    unfinished = text if outcomes[-1].stopped == "time" else None
    early = finish if number < len(stages) else None

    def at_the_top() -> None:
        publish(folders[:number], out, unfinished)
        if unfinished is not None and early is not None:
            tensors, card = load(out / WEIGHTS)
            load_into(model, tensors)
            with kept_generators(next(model.parameters()).device):
                card = finished(model.eval(), card, early, seed + len(stages) - 1, unfinished)
            save(out / WEIGHTS, model, card)

    place.agree(at_the_top)
    card = load(out / WEIGHTS)[1]
    return replace(outcomes[-1], weights=out / WEIGHTS, card=card, stages=tuple(outcomes))


def open_folder(out: Path, settings: Mapping[str, Any], resume: bool | str) -> None:
    """Make the folder of new stages, or see that there are some to go on with.

    Raises:
        ConfigError: as for one run.
    """
    check_folder(out, resume)
    if (out / STATE).exists() and not (out / LAST).is_symlink():
        raise ConfigError(
            f"{out} holds a run of one stage, begun by an earlier version. Choose another folder."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made ({error.strerror}).") from error
    if not (out / "config.toml").exists():
        write_text(out / "config.toml", to_toml(without_none(settings)))


def point(out: Path, folder: Path) -> None:
    """Let checkpoint and log of the stage that begins be found where a run of one stage has them.

    Who watches a run or makes a copy of its checkpoint needs not know of stages. Where there are no links
    (some file systems) they are found in the stage's own folder alone.
    """
    for name in (LAST, METRICS):
        link = out / name
        if link.is_symlink() or link.is_file():  # of another stage, or the rows of all so far
            link.unlink()
        with suppress(OSError):
            link.symlink_to(Path(folder.name) / name)


def publish(folders: Sequence[Path], out: Path, unfinished: str | None) -> None:
    """Put best weights and card of the last stage at the top, and into the card that there is more to come.

    `metrics.csv` at the top has the rows of all stages.
    """
    rows = [
        {"stage": folder.name, **row}
        for folder in folders
        if (folder / METRICS).exists()
        for row in read_rows(folder / METRICS)
    ]
    if (out / METRICS).is_symlink():  # its rows are the stage's own
        (out / METRICS).unlink()
    if rows:
        write_rows(out / METRICS, rows)
    folder = folders[-1]
    write_bytes(out / "card.md", (folder / "card.md").read_bytes())
    if unfinished is None:
        write_bytes(out / WEIGHTS, (folder / WEIGHTS).read_bytes())
    else:
        tensors, card = load(folder / WEIGHTS)
        save(out / WEIGHTS, tensors, replace(card, extra={**card.extra, UNFINISHED: unfinished}))
