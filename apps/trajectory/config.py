"""What a person may change: windows, network, augmentation, data and training."""

from dataclasses import dataclass, field
from typing import Literal

from core.config import Count, Share, Size
from core.errors import ConfigError
from core.training.options import LoopOptions

Representation = Literal["mixture", "residual_over_cv", "velocity", "position_relative"]
Frame = Literal["yaw", "none"]
Head = Literal["point", "gaussian", "quantile"]
LONGEST = 10_000
"""Positions of a history or steps of a horizon: a card that asks for more asks for the machine's memory."""


@dataclass(frozen=True)
class WindowConfig:
    """How tracks become examples; the defaults are the protocol of every published figure here."""

    dt: float = 0.1
    """Seconds between samples after resampling."""
    history: int = 21
    """Positions that a prediction looks at (one more than velocities)."""
    horizon: int = 20
    """Steps that are predicted."""
    stride: int = 5
    """Samples between evaluation windows; training uses every window."""
    max_gap: float | None = None
    """A longer step in time cuts a track into segments, s; None: half a second and five steps."""

    def __post_init__(self) -> None:
        widest = 1.0 if self.max_gap is None else self.max_gap
        if not (1e-4 <= self.dt <= 3600 and 0 < widest <= 1e6):  # also false for NaN
            raise ConfigError(
                "dt must be 0.0001 to 3600 s and max_gap positive, at most 1e6 s; "
                f"got {self.dt} and {self.max_gap}."
            )
        if not (3 <= self.history <= LONGEST and 1 <= self.horizon <= LONGEST and self.stride >= 1):
            raise ConfigError(
                f"history must be 3 to {LONGEST}, horizon 1 to {LONGEST} and stride at least 1; "
                f"got {self.history}, {self.horizon} and {self.stride}."
            )


@dataclass(frozen=True)
class ModelConfig:
    """The network. Every part of it can be told apart in `evaluate`, so nothing here is a matter of taste."""

    encoder: Literal["recurrent", "transformer"] = "recurrent"
    unit: str = "gru"
    """Any unit of `recurra units`, for the recurrent encoder."""
    hidden: Size = 64
    layers: Count = 2
    dims: Count = 3
    """Coordinates of a position; markers or several bodies may share one vector."""
    representation: Representation = "mixture"
    """`mixture` weighs the residual over constant velocity against simple answers, see `mixture`. A stateful
    model keeps no window for them and answers the residual alone."""
    frame: Frame = "yaw"
    """`yaw` turns every window so that the last velocity points along x; exact invariance to heading."""
    head: Head = "gaussian"
    stateful: bool = False
    """Train on streams of random length, so that the state can be carried from sample to sample."""
    heads: Count = 4
    """Attention heads of the transformer encoder."""
    wide: Size = 64
    """Width of the layer that scales the spread of a mixture by state and evidence."""
    grain: bool = True
    """Add to the spread of a mixture what the noise of the samples explains, in shares that are learned."""
    fine: bool = True
    """Let the spread of a mixture see how far the lines through all samples of a faster recorder are from
    those through the window."""
    mirror: bool = True
    """Answer as the mean of the window and its mirror image: left and right are alike. Not stateful."""

    def __post_init__(self) -> None:
        if min(self.hidden, self.layers, self.dims, self.heads, self.wide) < 1:
            raise ConfigError("model.hidden, layers, dims, heads and wide must be at least 1.")
        if self.frame == "yaw" and self.dims not in (2, 3):
            raise ConfigError(f"model.frame = yaw needs 2 or 3 dims, got {self.dims}; set model.frame=none.")
        if self.encoder == "transformer" and self.stateful:
            raise ConfigError(
                "a transformer carries no state; set model.stateful=false or encoder=recurrent."
            )
        if self.encoder == "transformer" and self.hidden % self.heads:
            raise ConfigError(
                f"model.hidden ({self.hidden}) must be a multiple of model.heads ({self.heads})."
            )
        if self.stateful and self.representation == "position_relative":
            raise ConfigError(
                "positions relative to the last one change with every sample: no stateful mode."
            )


@dataclass(frozen=True)
class AugmentConfig:
    """Chances and ranges of what is done to a training window; every change keeps it a possible flight."""

    mirror: Share = 0.5
    """Left becomes right."""
    flip: Share = 0.3
    """Up becomes down."""
    reverse: Share = 0.3
    """The flight runs backwards."""
    scale: Share = 0.7
    """Chance that the window is scaled in space, and so in speed."""
    scale_range: tuple[float, float] = (0.4, 2.0)
    noise: Share = 0.2
    """Chance of white noise on the history (never on the future)."""
    noise_m: float = 0.02
    """Largest standard deviation of that noise."""
    gaps: Share = 0.05
    """Chance that inner samples of the history are lost and filled by a straight line."""
    drift: Share = 0.15
    """Chance that everything moves along with a constant velocity more, as over a ship or in the wind."""
    shorten: Share = 0.2
    """Chance that a batch sees a shorter history."""
    shortest: int = 3

    def __post_init__(self) -> None:
        for name in ("mirror", "flip", "reverse", "scale", "noise", "gaps", "drift", "shorten"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"augment.{name} is a chance in 0..1, got {getattr(self, name)}.")
        low, high = self.scale_range
        if not 0 < low <= high:
            raise ConfigError(f"augment.scale_range must be positive and rising, got {low}, {high}.")
        if self.shortest < 3 or self.noise_m < 0:
            raise ConfigError("augment.shortest must be at least 3 and noise_m not negative.")


@dataclass(frozen=True)
class DataConfig:
    """Generated flights, and the share of windows that comes from the files given to `train`."""

    generated: int = 12000
    """Flights from the generator."""
    length: int = 300
    """Samples of each."""
    motions: int = 2000
    """Tracks of each family of `synth.motions`."""
    motion_share: float = 0.4
    """Share of the windows of a batch taken from those families, evenly over them."""
    real_share: float = 0.2
    """Share of the windows of a batch taken from files, evenly over their folders."""
    validation: float = 0.1
    """Share of flights (never of windows) kept for choosing the best epoch."""
    calibration: float = 0.15
    """Share of flights kept for the conformal radius."""

    def __post_init__(self) -> None:
        if min(self.generated, self.motions) < 0:
            raise ConfigError("data.generated and data.motions must not be negative.")
        if min(self.real_share, self.motion_share) < 0 or self.real_share + self.motion_share > 1:
            raise ConfigError("data.real_share and data.motion_share are shares, at most 1 together.")
        if not 0 <= self.validation + self.calibration < 0.9:
            raise ConfigError("data.validation and data.calibration must leave flights to train on.")


@dataclass(frozen=True)
class TrainConfig:
    """One training run. The defaults give the bundled weights."""

    steps: int = 200
    """Batches of an epoch."""
    batch: int = 512
    refine: int = 1500
    """Batches on flights of their own from which the spread alone is learned at the end."""
    balls: int = 3000
    """Batches from which a mixture learns to hold the same share of every family, see `balls`; 0: none."""
    seed: int = 3
    window: WindowConfig = field(default_factory=WindowConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(epochs=30, lr=3e-3, weight_decay=1e-3, warmup=0.02, ema=0.998)
    )

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.refine) < 1 or self.balls < 0:
            raise ConfigError(
                "steps, batch and refine must be at least 1 and balls not negative, "
                f"got {self.steps}, {self.batch}, {self.refine} and {self.balls}."
            )
        if self.augment.shortest > self.window.history:
            raise ConfigError(
                f"augment.shortest ({self.augment.shortest}) is longer than window.history "
                f"({self.window.history})."
            )
