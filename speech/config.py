"""What a person may change about training: network, mixtures, loop."""

from dataclasses import dataclass, field
from typing import Literal

from core.errors import ConfigError
from core.training.options import GroupOptions, LoopOptions, OptimizerOptions, ScheduleOptions
from speech.dynamic import MixConfig
from speech.models.causal_grid import CausalGridConfig
from speech.models.enhance import EnhanceConfig
from speech.models.separate import SeparateConfig
from speech.models.voice import VoiceConfig


@dataclass(frozen=True)
class RunConfig:
    """What both tasks share. `steps` batches of `batch` mixtures make an epoch."""

    steps: int = 200
    batch: int = 8
    seed: int = 0
    minutes: float | None = None
    """Plan as many epochs as fit into this time, by the pace of a few trial steps; None: `loop.epochs`."""
    mix: MixConfig = field(default_factory=MixConfig)
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(epochs=12, lr=1.5e-3, weight_decay=1e-3, clip=3.0, ema=0.995)
    )

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1:
            raise ConfigError(f"steps and batch must be at least 1, got {self.steps} and {self.batch}.")
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"minutes must be positive, got {self.minutes}.")


@dataclass(frozen=True)
class EnhanceRun(RunConfig):
    """`recurra speech train enhance`."""

    model: EnhanceConfig = field(default_factory=EnhanceConfig)


@dataclass(frozen=True)
class VoiceRun(RunConfig):
    """`recurra speech train voice`: best begun from an enhancement network (`--start speech-enhance`)."""

    mix: MixConfig = field(default_factory=lambda: MixConfig(seconds=2.5, speed=0.1))
    model: EnhanceConfig = field(default_factory=EnhanceConfig)
    voice: VoiceConfig = field(default_factory=VoiceConfig)


MATRICES = (
    "*weight_ih",
    "*weight_hh",
    "*.out.weight",
    "share.weight",
    "spread.weight",
    "widen.weight",
    "hidden.weight",
)
"""Weights of the separation network that Muon orthogonalises; as many steps with Adam reach 0.3 dB less."""


def separate_loop() -> LoopOptions:
    """Muon for matrices (Jordan et al. 2024), Adam for the rest, products in bfloat16."""
    groups = tuple(GroupOptions(name, lr=3e-3, optimizer="muon") for name in MATRICES)
    return LoopOptions(
        epochs=12,
        lr=2e-3,
        weight_decay=1e-3,
        clip=2.0,
        ema=0.998,
        precision="bfloat16",
        optimizer=OptimizerOptions("adamw", {"betas": (0.9, 0.98), "fused": True}, groups),
        schedule=ScheduleOptions("cosine", hold=0.3),
    )


@dataclass(frozen=True)
class SeparateRun(RunConfig):
    """`recurra speech train separate`."""

    batch: int = 12
    mix: MixConfig = field(
        default_factory=lambda: MixConfig(seconds=2.0, speed=0.1, alone=0.05, same_sex=0.5)
    )
    loop: LoopOptions = field(default_factory=separate_loop)
    replay: bool = False
    """On a GPU: record the launches of a step once and replay them."""
    network: Literal["bands", "grid"] = "bands"
    """Ours on bands, with the sizes of `model`, or the causal TF-GridNet with those of `grid`."""
    model: SeparateConfig = field(default_factory=SeparateConfig)
    grid: CausalGridConfig = field(default_factory=CausalGridConfig)

    @property
    def window(self) -> int:
        """Samples of a frame."""
        return self.grid.n_fft if self.network == "grid" else self.model.window


RUNS = {"enhance": EnhanceRun, "separate": SeparateRun, "voice": VoiceRun}
