"""What a person may change: network, generated scans, training."""

from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from core.config import Count, Share, Size
from core.errors import ConfigError
from core.training.options import LoopOptions, ScheduleOptions

ORDERS = ("x", "y", "z", "z-trans", "hilbert", "hilbert-trans")


@dataclass(frozen=True)
class ModelConfig:
    """A detector. `backbone` "bev" is the network without recurrence; then width, deep and depth are all."""

    backbone: Literal["lion", "voxel_mamba", "unimamba", "bev"] = "lion"
    operator: str = "min_gru"
    """A unit of core, run in both directions along every group."""
    dim: Size = 32
    """Channels of a voxel."""
    layers: Count = 16
    """Voxels in height."""
    layer_m: float = 0.25
    """Height of a voxel in metres; on x and y they are .4 m."""
    blocks: Count = 2
    """LION blocks; each halves the layers."""
    groups: tuple[Size, ...] = (256, 256, 256)
    """Tokens of a group in each block and in the last layer."""
    window: Count = 13
    orders: tuple[str, ...] = ("x", "y")
    """Orders of a LION layer, one after another: windows x, y, curves z, z-trans, hilbert, hilbert-trans."""
    generate: Share = 0.0
    """Share of voxels that send out new ones; .2 as published, 0 for none."""
    drop_path: Share = 0.0
    sweeps: Count = 1
    """Sweeps that are merged into one scan; above 1 points have an age, and boxes velocities."""
    memory: str = ""
    """A core unit that carries the map from sweep to sweep (`models/memory.py`); empty: none."""
    recompute: bool = False
    """Whether recurrent layers make their activations again in the backward pass: slower, less memory."""
    width: Size = 32
    """Channels of the bird's-eye map at .4 m."""
    deep: Size = 64
    """Channels at .8 and 1.6 m."""
    depth: Count = 2
    """Residual blocks at .8 and 1.6 m."""

    def __post_init__(self) -> None:
        if self.sweeps > 1 and self.memory:
            raise ConfigError("model: sweeps are merged or remembered, not both.")
        for name in ("dim", "layers", "blocks", "window", "width", "deep", "depth", "sweeps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"model.{name} must be at least 1, got {getattr(self, name)}.")
        if self.layers >> self.blocks < 1:
            raise ConfigError(f"model.blocks: {self.layers} layers cannot be halved {self.blocks} times.")
        wrong = [name for name in self.orders if name not in ORDERS]
        if wrong or not self.orders:
            raise ConfigError(f"model.orders: {wrong or 'none'}; there are {', '.join(ORDERS)}.")
        if len(self.groups) != self.blocks + 1:
            raise ConfigError(
                f"model.groups needs a size for each of the {self.blocks} blocks and one for the last layer; "
                f"got {len(self.groups)}."
            )
        if not 0 <= self.drop_path < 1 or not 0 <= self.generate <= 1 or self.layer_m <= 0:
            raise ConfigError("model: drop_path and generate are shares, layer_m is a length above 0.")


@dataclass(frozen=True)
class DataConfig:
    """Scans made while training."""

    sensor: str = "mixture"
    """A sensor, "mixture", or a TOML file."""
    scans: int = 2
    """New scans of a step."""
    views: int = 2
    """Ways each is seen; each view gives up to four crops."""
    pool: int = 0
    """Different scans that are drawn again and again, each time seen otherwise; 0: a fresh one every time."""
    store: str = ""
    """Folder that keeps the scans of the pool, for all workers and for other runs; empty: made anew."""
    riderless: Share = 1.0
    """Share of the crops without a cyclist that are learned; below 1 a batch holds more of them."""
    sweeps: int = 10
    """Sweeps of a drive that a memory learns from."""
    check: int = 24
    """Scans that the best epoch is chosen on; none of them is trained on."""

    paste: int = 0
    """Objects of other scans that are pasted into each scan."""
    hard: int = 24
    """Harder scans that the thresholds of the finished weights come from; 24 and more: of each sensor."""

    def __post_init__(self) -> None:
        if self.pool < 0 or (self.store and not self.pool):
            raise ConfigError("data.pool is a number of scans, 0 for fresh ones; data.store keeps a pool.")
        if min(self.scans, self.views, self.sweeps, self.check, self.hard) < 1:
            raise ConfigError("data.scans, views, sweeps, check and hard must be at least 1.")
        if not 0 <= self.riderless <= 1:
            raise ConfigError(f"data.riderless is a share from 0 to 1, got {self.riderless}.")


@dataclass(frozen=True)
class TrainConfig:
    """One training run. `preset` names a network; a setting given beside it wins."""

    preset: Literal["tiny", "small", "kitti", "waymo", "nuscenes", "argoverse2", "bev", "own"] = "tiny"
    steps: int = 100
    """Steps of an epoch."""
    minutes: float | None = None
    """Wall clock to fill: the epochs follow from the speed that is measured. None: as `loop` says."""
    workers: int = 0
    """Processes that make scans ahead; the result does not depend on how many."""
    seed: int = 0
    bfloat16: bool = True
    """On a CPU that multiplies in bfloat16, all but sparse products, heads and losses are computed in it."""
    balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Weights of cars, pedestrians and cyclists in the loss."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(
            epochs=20,
            lr=4e-3,
            weight_decay=0.01,
            schedule=ScheduleOptions("one_cycle", warmup=0.15, start_factor=0.1, end_factor=1e-3),
            clip=10.0,
            ema=0.995,
            ema_statistics=True,
        )
    )

    def __post_init__(self) -> None:
        if self.steps < 1 or self.workers < 0:
            raise ConfigError(
                f"steps must be at least 1 and workers not negative, got {self.steps}, {self.workers}."
            )
        if len(self.balance) != 3 or min(self.balance) <= 0:
            raise ConfigError(f"balance is three weights above 0, got {self.balance}.")
        if self.minutes is not None and self.minutes <= 0:
            raise ConfigError(f"minutes must be positive, got {self.minutes}.")


PUBLISHED = ModelConfig(
    operator="Mamba", dim=64, layers=32, layer_m=0.2, blocks=3, groups=(4096, 2048, 1024, 256), generate=0.2,
    drop_path=0.2, recompute=True, width=64, deep=128,
)  # fmt: skip
"""Widths, groups, generation of voxels and operator as published, on this package's crops and heads."""
PRESETS = {
    "tiny": ModelConfig(),
    "small": ModelConfig(dim=64, blocks=2, width=64, deep=128),
    "kitti": PUBLISHED,
    "waymo": PUBLISHED,
    "nuscenes": replace(PUBLISHED, dim=128, sweeps=10),
    "argoverse2": replace(PUBLISHED, dim=128),
    "bev": ModelConfig(backbone="bev"),
}


def preset(config: TrainConfig) -> TrainConfig:
    """The settings with the network that their preset names; what was set beside it stays."""
    if config.preset == "own":
        return config
    usual, given = asdict(ModelConfig()), asdict(config.model)
    own = {name: getattr(config.model, name) for name in given if given[name] != usual[name]}
    return replace(config, model=replace(PRESETS[config.preset], **own))
