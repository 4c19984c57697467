"""What a person may change about a training run; a domain's settings nest this as `loop`."""

from dataclasses import dataclass
from typing import Literal

from core.errors import ConfigError


@dataclass(frozen=True)
class LoopOptions:
    """Settings of the loop. `lr` is the peak; the schedule multiplies it."""

    epochs: int = 20
    max_steps: int | None = None  # None: as many as the epochs have
    max_minutes: float | None = None  # wall clock of this session; None: no limit. `--resume` goes on
    patience: int | None = None  # epochs without improvement before stopping; None: never
    lr: float = 1e-3
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = 0.01
    slow_factor: float = 0.1  # decay and step-size parameters of a unit learn at lr * slow_factor
    schedule: Literal["constant", "cosine", "linear", "step", "one_cycle"] = "cosine"
    warmup: float = 0.05  # fraction of all steps over which lr rises
    clip: float | None = 1.0  # largest gradient norm; None: no clipping
    accumulate: int = 1  # batches per step
    ema: float | None = None  # decay of the averaged weights that are validated and kept; None: no average
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    checkpoint_steps: int | None = None  # also checkpoint after so many steps; None: after epochs only
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "accumulate", "max_steps", "max_minutes", "patience", "lr", "slow_factor"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be positive, got {value}.")
        for name in ("clip", "checkpoint_steps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be positive, or none to switch it off; got {value}.")
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay must not be negative, got {self.weight_decay}.")
        if not 0 <= self.warmup < 1:
            raise ConfigError(
                f"warmup is a fraction of all steps, at least 0 and below 1; got {self.warmup}."
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"ema is a decay between 0 and 1, such as 0.999, or none; got {self.ema}.")
