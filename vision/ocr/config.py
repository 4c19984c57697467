"""What a person may change about training and reading."""

from dataclasses import dataclass, field, replace
from typing import Literal

from core.config import Count, Share, Size
from core.errors import ConfigError
from core.training.options import LoopOptions
from vision.ocr.line import LineSettings

Task = Literal["lines", "digits"]


@dataclass(frozen=True)
class ModelConfig:
    """The network. `channels` starts with the stem; `pools` halve the height after that many blocks."""

    name: Literal[
        "lines",
        "digits",
        "pylaia",
        "crnn",
        "htr",
        "vgsl",
        "easter",
        "easter2",
        "seq2seq",
        "r2am",
        "master",
        "nrtr",
        "tps",
    ] = "lines"
    unit: str = "lstm"
    hidden: Size = 192
    layers: Count = 2
    channels: tuple[Size, ...] = (32, 48, 96, 128)
    pools: int = 2
    dropout: Share = 0.4
    between_dropout: Share = 0.3
    hidden_share: Share = 0.15  # of the frames of a line that spans of zeros may cover in training
    shortcut: bool = True  # a second head on the convolutions, in training only
    attention: Literal["content", "location", "coverage"] = "location"  # of seq2seq
    ctc_weight: float = 0.5  # of the CTC loss on the encoder, beside the decoder of networks that spell
    spec: str = ""  # of vgsl; {height}, {hidden}, {outputs} are filled in. Empty: kraken's default

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.layers < 1 or len(self.channels) < 2:
            raise ConfigError("model.hidden, model.layers must be positive, model.channels two or more.")
        if not 0 <= self.ctc_weight < 1:
            raise ConfigError(f"model.ctc_weight must be in 0..1, below 1; got {self.ctc_weight}.")
        if self.name == "digits" and len(self.channels) != 4:
            raise ConfigError(f"model.channels of the digit network are four, got {len(self.channels)}.")


@dataclass(frozen=True)
class AugmentConfig:
    """How much a training line may change; `strength` scales everything, 0 switches it off."""

    strength: float = 1.0
    rotate: float = 1.0  # degrees
    slant: float = 0.35  # columns a row
    stretch: float = 0.25  # of the width
    squash: float = 0.15  # of the height
    shift: float = 0.06  # of the height
    elastic: float = 2.5  # pixels
    thickness: float = 0.35  # chance of thicker or thinner strokes
    blur: float = 0.2  # chance
    noise: float = 0.06  # of full ink
    contrast: float = 0.3
    patches: float = 0.3  # chance of a tile of the line being wiped or filled


@dataclass(frozen=True)
class DataConfig:
    """`generated` lines or strings are made once and mixed in; `real_share` of a batch is from files."""

    generated: int = 2000
    real_share: Share = 0.5
    validation: Share = 0.1  # of the documents, where an index has no rows with split "val"
    longest: int = 10  # digits of a generated string
    fonts: float = 0.0  # share of the generated lines that is set in fonts installed here
    unknown: Literal["error", "drop", "replace"] = "error"  # replace: by the letter without its accents

    def __post_init__(self) -> None:
        if not 0 <= self.fonts <= 1 or not 0 <= self.real_share <= 1 or not 0 <= self.validation < 1:
            raise ConfigError("data.fonts and data.real_share are shares in 0..1, data.validation below 1.")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run."""

    task: Task = "lines"
    seed: int = 0
    pixels: int = 65536  # columns of a batch of lines, padding included
    batch: int = 64  # strings of a batch of digits
    steps: int = 400  # of an epoch of digits
    laps: int = 1  # times that an epoch of lines goes through them; validation follows each epoch
    workers: int = 0  # processes that make batches
    makers: int = 1  # processes that make the generated examples
    shortcut_weight: float = 0.3
    exact: tuple[str, ...] | None = None  # stages left in float32 under bfloat16; None: timed at the begin
    line: LineSettings = field(default_factory=LineSettings)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(
            epochs=60,
            lr=2e-3,
            weight_decay=1e-3,
            warmup=0.1,
            clip=5.0,
            ema=0.999,
            schedule="cosine",
            recover=2,
        )
    )

    def __post_init__(self) -> None:
        if self.pixels < 256 or self.batch < 2 or self.steps < 1 or self.laps < 1:
            raise ConfigError("pixels must be at least 256, batch 2, steps and laps 1.")
        if self.model.name == "digits" and self.line.height % 16:
            raise ConfigError(f"the digit network takes heights in sixteens, got {self.line.height}.")


def defaults(task: str) -> TrainConfig:
    """Good settings of a task.

    Raises:
        ConfigError: there is no such task.
    """
    if task == "lines":
        return TrainConfig()
    if task == "digits":
        config = TrainConfig(task="digits")
        return replace(
            config,
            line=LineSettings(height=32, margin=4),
            model=ModelConfig(
                name="digits", hidden=128, channels=(32, 48, 96, 160), dropout=0.3, shortcut=False
            ),
            augment=AugmentConfig(strength=0.5),
            data=DataConfig(generated=20000),
            loop=replace(config.loop, epochs=20),
        )
    raise ConfigError(f"no task {task!r}; there are lines, digits.")
