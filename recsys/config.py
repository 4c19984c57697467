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
    rank: int = 0  # of the groups' posterior, low-rank and diagonal; 0: their vectors are points

    def __post_init__(self) -> None:
        for name in ("hidden", "dims", "interests", "width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.rank <= 64:
            raise ConfigError(f"model.rank lies between 0 and 64, got {self.rank}.")
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
    offered: float = 1.0  # weight of the likelihood of recommendation slates, where they were no accident
    looks: int = 1  # steps of each user that the recommending head looks ahead from, in a batch
    kl: float = 0.5  # weight of the divergence from the prior; 1 is the ELBO
    kl_rise: Share = 0.0  # of all steps, over which that weight rises from 0; 0: it is constant
    point: bool = False  # point estimates of the items instead of a posterior
    validation: int = 200  # users kept aside to choose the best weights by likelihood
    seconds: float | None = None  # CPU seconds of the training; None: as loop says


@dataclass(frozen=True)
class PaperRun:
    """A run of the paper's model in two stages: items with the linear state, then the state network."""

    model: PaperConfig = field(default_factory=lambda: PaperConfig(likelihood_temperature=0.1))
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(
            epochs=12, lr=1e-2, optimizer="adam", weight_decay=0.0, warmup=0.05, clip=100.0
        )
    )
    staged: bool = True  # off: items and state together from the start, which is worse
    state_epochs: int = 20  # of the second stage, where the user model has weights of its own
    kl_rise: Share = 0.0  # of a stage's steps, over which the weight of the divergence rises from 0 to 1
    batch: int = 128
    seed: int = 0
    validation: int = 200
    seconds: float | None = None


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
            epochs=10,
            lr=2e-3,
            optimizer=OptimizerOptions(
                options={"betas": [0.9, 0.98]},
                # the five scalars of the dynamics have far to go in few steps
                groups=(
                    *(GroupOptions(name, 1e-2, 0.0) for name in ("pull", "jump", "log_*")),
                    GroupOptions("items.*", 4e-3, 0.0),
                ),
            ),
            schedule=ScheduleOptions(warmup=0.05, floor=0.03),
            weight_decay=0.0,
            ema=0.99,
        )
    )
    batch: int = 128
    seed: int = 0
    kl: float = 0.5
    kl_rise: Share = 0.0
    validation: int = 200
    seconds: float | None = None


@dataclass(frozen=True)
class PairConfig:
    """An interest network and the filter that started from it, asked together."""

    network: InterestConfig = field(default_factory=InterestConfig)
    filter: FilterConfig = field(default_factory=FilterConfig)
    trust: Share = 0.7  # in the network's groups; the rest is the filter's
    lean: float = 0.6  # power of the filter's choice within a group

    def __post_init__(self) -> None:
        if not 0 <= self.trust <= 1 or not 0 <= self.lean <= 10:
            raise ConfigError(f"trust lies in 0..1 and lean in 0..10, got {self.trust} and {self.lean}.")


@dataclass(frozen=True)
class PairRun:
    """A run of the network, of the filter from it, and both in one file."""

    network: SlateConfig = field(default_factory=SlateConfig)
    filter: FilterRun = field(default_factory=FilterRun)
    trust: Share = 0.7
    lean: float = 0.6
    seed: int = 0  # of both


@dataclass(frozen=True)
class NextConfig:
    """A next-item model."""

    block: str = "sasrec"  # sasrec, esasrec, gsasrec, fmlp, gru4rec, hstu, or a unit of core
    hidden: Size = 64
    layers: Count = 2
    heads: Count = 2
    length: int = 0  # of the window; 0: what holds 95 of 100 sequences, at most 50
    dropout: Share = 0.3
    sharded: bool = False  # rows of the item table are dealt out to the processes of a torchrun
    sparse: bool = False  # gradients of the item table by rows: a step costs what its rows cost

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {getattr(self, name)}.")
        if self.length < 0:
            raise ConfigError(f"model.length must not be negative, got {self.length}.")


NEXT_LOSSES = ("softmax", "sampled", "gbce", "bce", "bpr_max", "in_batch")
"""Over all items; k negatives; generalised BCE; BCE; and two that also take the batch's other targets."""


@dataclass(frozen=True)
class NextRun:
    """A training run of a next-item model."""

    model: NextConfig = field(default_factory=NextConfig)
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(epochs=30, lr=2e-3, ema=0.99))
    loss: Literal["softmax", "sampled", "gbce", "bce", "bpr_max", "in_batch"] = "sampled"
    negatives: int = 512  # shared by a batch
    alpha: float = 0.0  # negatives are drawn by popularity^alpha; 0: evenly
    logq: float = 0.0  # share of the log of how often a column is drawn that is taken off its score
    bpreg: float = 1.0  # of bpr_max, on the squared scores of the negatives
    lanes: int = 0  # session-parallel batches of so many lanes (gru4rec); 0: a row a user
    t: float = 0.75  # calibration of gbce
    batch: int = 128
    seed: int = 0
    split: str = "auto"  # what is left for the test: time, last, none
    support: Count = 1  # of a split by time: clicks that an item needs in what is learned from
    seconds: float | None = None  # CPU seconds of the training; None: as loop says
    validation: int = 1000  # questions out of what is learned that choose the best weights

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 2 or not 0 <= self.logq <= 2:
            raise ConfigError(f"alpha and logq lie in 0..2, got {self.alpha} and {self.logq}.")
        if self.negatives < 1 or self.lanes < 0 or self.batch < 1:
            raise ConfigError("negatives and batch are at least 1, lanes at least 0.")
        if self.lanes and self.model.block != "gru4rec":
            raise ConfigError("session-parallel batches (lanes) are gru4rec's.")
        if self.loss in ("bpr_max", "in_batch") and not self.lanes:
            raise ConfigError(f"{self.loss} takes the other lanes' targets as negatives: set lanes.")
        if (self.model.sparse or self.model.sharded) and self.loss == "softmax":
            raise ConfigError(
                "softmax over all items has no rows to spare: take another loss, or not sparse or sharded."
            )
        if self.model.sharded and (self.lanes or self.model.sparse):
            raise ConfigError(
                "a sharded table is for rows of users (no lanes), with gradients that are dense."
            )
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError(f"seconds must be positive, got {self.seconds}.")
