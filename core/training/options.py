"""What a person may change about a training run; a domain's settings nest this as `loop`.

Sections (`loop.schedule`, `loop.optimizer`, `loop.recover`) may be set by one word:
`--set loop.schedule=linear` is `loop.schedule.name`, and `LoopOptions(optimizer="sgd")` the same in code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from core.errors import ConfigError

SCHEDULES = ("constant", "cosine", "linear", "one_cycle", "plateau", "step")
WARMUP = 0.05
ONE_CYCLE_WARMUP = 0.3


@dataclass(frozen=True)
class ScheduleOptions:
    """How lr goes over a run; `core.training.schedule` states the formulas."""

    shorthand: ClassVar[str] = "name"

    name: Literal["constant", "cosine", "linear", "one_cycle", "plateau", "step"] = "cosine"
    warmup: float | None = None
    """Fraction of all steps over which lr rises; None: 0.05, and 0.3 for one_cycle."""
    floor: float = 0.0
    """Lowest part of the peak that is reached after the rise (not by one_cycle, which has end_factor)."""
    hold: float = 0.0
    """Fraction of all steps at the peak, between the rise and the fall, of linear and cosine."""
    milestones: tuple[tuple[float, float], ...] = ()
    """For `step`: (fraction of all steps, factor from there on), such as ((0.6, 0.3), (0.85, 0.3)).
    None given: a tenth after each third of the steps that follow the rise."""
    start_factor: float = 1 / 25
    """Part of the peak that one_cycle begins with."""
    end_factor: float = 4e-6
    """Part of the peak that one_cycle ends with."""
    clock: bool = False
    """Whether lr follows the part of `max_minutes` that has passed, where that is ahead of the steps, so that
    it comes down on any machine; the run is over, and validated, when its minutes are."""
    momentum: tuple[float, float] | None = (0.95, 0.85)
    """Momentum, or the first beta, where one_cycle begins and ends, and at its peak. None: left alone."""
    patience: int = 5
    """Validations without progress that `plateau` waits for before it goes back to the best weights."""
    factor: float = 0.5
    """What `plateau` multiplies lr with then."""

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise ConfigError(f"no schedule {self.name!r}; there are {', '.join(SCHEDULES)}.")
        if self.warmup is not None and not 0 <= self.warmup < 1:
            raise ConfigError(
                f"warmup is a fraction of all steps, at least 0 and below 1; got {self.warmup}."
            )
        if not 0 <= self.hold <= 1:
            raise ConfigError(f"schedule.hold is a fraction of all steps in 0..1, got {self.hold}.")
        if not 0 <= self.floor <= 1:
            raise ConfigError(f"schedule.floor is a part of lr in 0..1, got {self.floor}.")
        if not (0 < self.start_factor <= 1 and 0 <= self.end_factor <= 1):
            raise ConfigError(
                f"schedule.start_factor and end_factor are parts of lr in 0..1, got {self.start_factor} "
                f"and {self.end_factor}."
            )
        if not 0 < self.factor < 1 or self.patience < 1:
            raise ConfigError(
                "schedule.factor must lie between 0 and 1 and schedule.patience be at least 1; "
                f"got {self.factor} and {self.patience}."
            )
        if self.momentum is not None and not all(0 <= part < 1 for part in self.momentum):
            raise ConfigError(f"schedule.momentum is a pair of numbers in 0..1, got {self.momentum}.")
        object.__setattr__(self, "milestones", tuple(tuple(pair) for pair in self.milestones))
        for pair in self.milestones:
            if len(pair) != 2 or not (0 <= pair[0] <= 1 and pair[1] > 0):
                raise ConfigError(
                    f"a milestone is (fraction of all steps, factor above 0), such as (0.6, 0.3); got {pair}."
                )

    @property
    def rise(self) -> float:
        """Fraction of all steps over which lr rises."""
        if self.warmup is not None:
            return self.warmup
        return ONE_CYCLE_WARMUP if self.name == "one_cycle" else WARMUP


@dataclass(frozen=True)
class GroupOptions:
    """Parameters whose names match a pattern such as "items.*" (`*` goes over dots, too)."""

    pattern: str
    lr: float | None = None
    """Peak of these; None: as the rest."""
    decay: float | None = None
    """Weight decay of all of these; None: as the rest (matrices only)."""
    freeze: bool = False
    """They do not learn in this run, and modules of frozen parameters alone stay in evaluation."""
    optimizer: str | None = None
    """Another optimiser for these; None: the run's."""
    options: dict[str, Any] = field(default_factory=dict)
    """Its options."""

    def __post_init__(self) -> None:
        for name in ("lr", "decay"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ConfigError(f"{name} of the group {self.pattern!r} must not be negative, got {value}.")


@dataclass(frozen=True)
class OptimizerOptions:
    """Which optimiser, with which options, and parameters that want something else."""

    shorthand: ClassVar[str] = "name"

    name: str = "adamw"
    """adadelta, adagrad, adam, adamw, muon, nadam, rmsprop, sgd, sparse_adam, or "package.module:Class"."""
    options: dict[str, Any] = field(default_factory=dict)
    """Its own options, such as {"betas": (0.9, 0.98)}; lr and weight_decay are options of the loop."""
    groups: tuple[GroupOptions, ...] = ()
    """The first group whose pattern matches a parameter has it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(as_group(group) for group in self.groups))


def as_group(given: Any) -> GroupOptions:
    """A group from (pattern, lr, decay, freeze, optimizer) or from names."""
    if isinstance(given, GroupOptions):
        return given
    try:
        return GroupOptions(**given) if isinstance(given, Mapping) else GroupOptions(*given)
    except TypeError as error:
        raise ConfigError(
            f"a parameter group has pattern, lr, decay, freeze, optimizer and options; got {given!r}."
        ) from error


@dataclass(frozen=True)
class RecoverOptions:
    """What happens when the loss explodes."""

    shorthand: ClassVar[str] = "times"

    times: int = 0
    """How often a run may go back to its best weights; 0: it ends at the first explosion."""
    factor: float = 0.5
    """What lr is multiplied with each time."""
    above: float | None = None
    """A mean loss over 20 steps above this is an explosion, too. None: only one that is not finite."""

    def __post_init__(self) -> None:
        if self.times < 0 or not 0 < self.factor <= 1:
            raise ConfigError(
                "recover.times must not be negative and recover.factor lie in 0..1; "
                f"got {self.times} and {self.factor}."
            )


@dataclass(frozen=True)
class LoopOptions:
    """Settings of the loop. `lr` is the peak; the schedule multiplies it."""

    epochs: int = 20
    max_steps: int | None = None  # None: as many as the epochs have
    max_minutes: float | None = None  # wall clock of this session; None: no limit. `--resume` goes on
    patience: int | None = None  # epochs without improvement before stopping; None: never
    lr: float = 1e-3
    optimizer: OptimizerOptions | str = field(default_factory=OptimizerOptions)
    weight_decay: float = 0.01  # where the optimiser knows it
    slow_factor: float = 0.1  # decay and step-size parameters of a unit learn at lr * slow_factor
    schedule: ScheduleOptions | str = field(default_factory=ScheduleOptions)
    warmup: float | None = None  # the name that schedule.warmup had in 0.1
    clip: float | None = 1.0  # largest gradient norm; None: no clipping
    accumulate: int = 1  # batches per step
    ema: float | None = None  # decay of the averaged weights that are validated and kept; None: no average
    ema_statistics: bool = False  # average batch-norm statistics, too, instead of taking them as they are
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    recover: RecoverOptions | int = field(default_factory=RecoverOptions)
    validate_steps: int | None = None  # also validate after so many steps; None: after epochs only
    checkpoint_steps: int | None = None  # also checkpoint after so many steps; None: after validations only
    workers: int | None = None  # processes that make batches; None: as the batches themselves say
    tensorboard: bool = False
    patience_s: float = 30.0  # of several processes: seconds without a word until another one counts as lost

    def __post_init__(self) -> None:
        sections = (
            ("optimizer", OptimizerOptions),
            ("schedule", ScheduleOptions),
            ("recover", RecoverOptions),
        )
        for name, kind in sections:
            given = getattr(self, name)
            if isinstance(given, Mapping):
                object.__setattr__(self, name, kind(**given))
            elif not isinstance(given, kind):
                object.__setattr__(self, name, kind(given))
        if self.warmup is not None:
            object.__setattr__(self, "schedule", replace(self.plan, warmup=self.warmup))
            object.__setattr__(self, "warmup", None)
        if not 1 <= self.patience_s <= 86_400:
            raise ConfigError(f"patience_s must be 1 to 86,400 seconds, got {self.patience_s}.")
        for name in ("epochs", "accumulate", "max_steps", "max_minutes", "patience", "lr", "slow_factor"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be positive, got {value}.")
        for name in ("clip", "checkpoint_steps", "validate_steps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be positive, or none to switch it off; got {value}.")
        if self.plan.clock and self.max_minutes is None:
            raise ConfigError("schedule.clock follows max_minutes; give them.")
        if self.weight_decay < 0 or (self.workers is not None and self.workers < 0):
            raise ConfigError(
                f"weight_decay and workers must not be negative, got {self.weight_decay} and {self.workers}."
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"ema is a decay between 0 and 1, such as 0.999, or none; got {self.ema}.")

    @property
    def plan(self) -> ScheduleOptions:
        """`schedule`, whatever it was given as."""
        assert isinstance(self.schedule, ScheduleOptions)
        return self.schedule

    @property
    def learner(self) -> OptimizerOptions:
        """`optimizer`, whatever it was given as."""
        assert isinstance(self.optimizer, OptimizerOptions)
        return self.optimizer

    @property
    def recovery(self) -> RecoverOptions:
        """`recover`, whatever it was given as."""
        assert isinstance(self.recover, RecoverOptions)
        return self.recover
