"""What a person may change about the slate models and their training."""

from dataclasses import dataclass, field
from typing import Literal

from core.config import Count, Share, Size
from core.errors import ConfigError
from core.training import LoopOptions
from core.training.options import GroupOptions, OptimizerOptions, ScheduleOptions


@dataclass(frozen=True)
class InterestConfig:
    """The network of a user: state, traces, interests."""

    unit: str = "gru"
    hidden: Size = 64
    dims: Size = 8  # of an item's vector
    interests: Count = 1
    traces: int = 3  # speeds of the linear traces
    width: Size = 64  # of the two-layer nets
    dropout: Share = 0.2
    context: bool = True  # the slate that is judged is known to the choice
    groups: bool = True  # off: one group for all items, the flat prior

    def __post_init__(self) -> None:
        for name in ("hidden", "dims", "interests", "width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {getattr(self, name)}.")
        if not 1 <= self.traces <= 6:
            raise ConfigError(f"model.traces must be between 1 and 6, got {self.traces}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout must be in [0, 1), got {self.dropout}.")


@dataclass(frozen=True)
class PaperConfig:
    """The model of the paper: user model, score, priors, temperatures."""

    user: str = "gru"  # gru, linear, markov, lingru or a unit of core
    dims: Size = 8
    score: Literal["l2", "dot"] = "l2"
    likelihood: Literal["slate", "all"] = "slate"  # over the slate, or against uniform items
    groups: bool = True  # off: one group for all items
    kind_bias: bool = False  # no-click bias by kind of slate
    slot_bias: bool = False
    prior_group: float = 4.632
    prior_spread: float = 0.8167
    prior_user: float = 0.5
    prior_bias: float = 1.0
    prior_mult: float = 0.0  # spread of |alpha| around 1; 0: alpha is 1
    prior_rnn: float = 1.0
    decay: float = 4.0  # of the weight of the k-th click in h_0
    prior_temperature: float = 1.0
    likelihood_temperature: float = 0.02645
    compat: bool = False  # the published code's two traits, see models/slate.py

    def __post_init__(self) -> None:
        for name in ("dims", "prior_group", "prior_spread", "prior_user", "prior_bias", "prior_rnn"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"model.{name} must be positive, got {getattr(self, name)}.")
        for name in ("prior_temperature", "likelihood_temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"model.{name} must be positive, got {getattr(self, name)}.")


@dataclass(frozen=True)
class SlateConfig:
    """A training run of the slate model."""

    model: InterestConfig = field(default_factory=InterestConfig)
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(
            epochs=16,
            lr=4e-3,
            optimizer=OptimizerOptions(
                options={"betas": [0.9, 0.98]},
                groups=(GroupOptions("items.*", 8e-3, 0.0),),
            ),
            schedule=ScheduleOptions(warmup=0.1, floor=0.03),
            weight_decay=0.02,
            ema=0.995,
        )
    )
    batch: int = 128
    seed: int = 0
    later: float = 0.15  # weight of the recommending head's loss
    kl: float = 0.5  # weight of the divergence from the prior; 1 is the ELBO
    point: bool = False  # point estimates of the items instead of a posterior
    validation: int = 200  # users kept aside to choose the best weights by likelihood


@dataclass(frozen=True)
class PaperRun:
    """A run of the paper's model in two stages: items with the linear state, then the state network."""

    model: PaperConfig = field(default_factory=lambda: PaperConfig(likelihood_temperature=0.1))
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(
            epochs=50, lr=1e-2, optimizer="adam", weight_decay=0.0, warmup=0.05, clip=100.0
        )
    )
    staged: bool = True  # off: items and state together from the start, which is worse
    state_epochs: int = 20  # of the second stage, where the user model has weights of its own
    batch: int = 128
    seed: int = 0
    validation: int = 200


@dataclass(frozen=True)
class FilterConfig:
    """The user's state as a particle filter; its scalars are learned from these starts."""

    dims: Size = 8
    particles: Size = 24  # in training
    judges: Size = 150  # when it is asked
    pull: Share = 0.2  # of a click on the state
    drift: Share = 0.13
    jump: Share = 0.04  # chance per step
    spread: Share = 0.74  # around a group after a jump
    sharpness: float = 1.0  # of the group that a search shows

    def __post_init__(self) -> None:
        for name in ("dims", "particles", "judges"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("pull", "jump"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must lie between 0 and 1, got {getattr(self, name)}.")


@dataclass(frozen=True)
class FilterRun:
    """A run of the filter, started from the items of an interest network."""

    model: FilterConfig = field(default_factory=FilterConfig)
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(
            epochs=6,
            lr=2e-3,
            optimizer=OptimizerOptions(
                options={"betas": [0.9, 0.98]}, groups=(GroupOptions("items.*", 4e-3, 0.0),)
            ),
            schedule=ScheduleOptions(warmup=0.05, floor=0.03),
            weight_decay=0.0,
            ema=0.99,
        )
    )
    batch: int = 128
    seed: int = 0
    kl: float = 0.5
    validation: int = 200


@dataclass(frozen=True)
class NextConfig:
    """A next-item model."""

    block: str = "sasrec"  # sasrec, esasrec, gsasrec, fmlp, gru4rec, or a unit of core
    hidden: Size = 64
    layers: Count = 2
    heads: Count = 2
    length: Size = 50
    dropout: Share = 0.3

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {getattr(self, name)}.")


@dataclass(frozen=True)
class NextRun:
    """A training run of a next-item model."""

    model: NextConfig = field(default_factory=NextConfig)
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(epochs=30, lr=2e-3, ema=0.99))
    loss: Literal["softmax", "sampled", "gbce"] = "sampled"
    negatives: int = 512  # uniform ones, shared by a batch
    t: float = 0.75  # calibration of gbce
    batch: int = 128
    seed: int = 0
    validation: int = 2000  # users whose last known item chooses the best weights
