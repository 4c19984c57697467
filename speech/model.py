"""Networks by name: bundled weights, runs of `train`, imported checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.config import replace as changed
from core.errors import ConfigError
from core.weights import Card, load_network
from speech.models.causal_grid import CausalGrid, CausalGridConfig
from speech.models.enhance import EnhanceConfig, EnhanceNet
from speech.models.separate import SeparateConfig, SeparateNet
from speech.models.voice import VoiceConfig, VoiceNet

DEFAULTS = {"enhance": "speech-enhance", "separate": "speech-separate", "voice": "speech-enhance-voice"}
LIVE_SEPARATION = "speech-separate-live"
LEVELS = {"frcrn": -25.0, "mossformer2-ss": -25.0}
"""Layouts whose published programs level their input, dB re full scale."""
LAYOUT = "layout"
"""Setting of a card that names a published layout; its constructor's words stand beside it."""


@dataclass(frozen=True)
class Model:
    """A network that is ready, and what its card says."""

    network: nn.Module
    card: Card
    name: str

    @property
    def talkers(self) -> int:
        """Waves that it gives."""
        config = getattr(self.network, "config", None)
        return int(getattr(self.network, "talkers", getattr(config, "talkers", 1)))  # pyright: ignore

    @property
    def rate(self) -> int:
        """Samples per second that it works at."""
        own = self.card.settings.get("rate", getattr(self.network, "rate", 16000))
        return int(own) if isinstance(own, int | float) and 4000 <= own <= 384_000 else 16000

    @property
    def level_db(self) -> float | None:
        """RMS that its authors bring every input to, where they do."""
        return LEVELS.get(str(self.card.settings.get(LAYOUT)))

    @property
    def streams(self) -> bool:
        """Whether it can go frame by frame."""
        return hasattr(self.network, "filter")


def load_model(
    weights: str | Path | None = None, task: str = "enhance", device: str | torch.device = "cpu"
) -> Model:
    """A network for a task: a bundled name, a weights file or a run folder; the bundled one when left out.

    Raises:
        ConfigError: no such task.
        WeightsError: nothing there, damaged, or weights for another task.
    """
    if task not in DEFAULTS:
        raise ConfigError(f"a task is one of {', '.join(DEFAULTS)}; got {task!r}.")
    loaded = load_network(weights or DEFAULTS[task], task, network_of, device=device)
    return Model(loaded.network, loaded.card, loaded.name)


def sizes_of(model: Model) -> dict[str, Any]:
    """The sizes of a network of ours, by the names of settings of a run.

    Raises:
        ConfigError: it is a published network, which is not trained here.
    """
    if isinstance(model.network, VoiceNet):
        return {"model": model.network.base.config, "voice": model.network.config}
    config = getattr(model.network, "config", None)
    if isinstance(config, CausalGridConfig):
        return {"network": "grid", "grid": config}
    if not isinstance(config, EnhanceConfig | SeparateConfig):
        raise ConfigError(f"{model.name} is a published network; only networks of ours are trained here.")
    return {"model": config}


def network_of(card: Card) -> nn.Module:
    """The network that a card describes, without its weights.

    Raises:
        ConfigError: the card tells of none.
    """
    settings = card.settings
    if LAYOUT in settings:
        from speech.layouts import build

        options = settings.get("options", {})
        if not isinstance(options, Mapping) or not all(plain(value) for value in options.values()):
            raise ConfigError("the card's words of a layout are no numbers of a network")
        return build(str(settings[LAYOUT]), options)
    model = settings.get("model")
    if not isinstance(model, Mapping):
        raise ConfigError("the card names no network")
    if card.task == "enhance":
        return EnhanceNet(changed(EnhanceConfig(), model))
    if card.task == "voice":
        voice = settings.get("voice")
        sizes = changed(VoiceConfig(), voice if isinstance(voice, Mapping) else {})
        return VoiceNet(changed(EnhanceConfig(), model), sizes)
    if settings.get("network") == "grid":
        grid = settings.get("grid")
        return CausalGrid(changed(CausalGridConfig(), grid if isinstance(grid, Mapping) else {}))
    return SeparateNet(changed(SeparateConfig(), model))


def plain(value: Any) -> bool:
    """Whether a word of a constructor is text, a switch, or a number of sensible size, or a few of them."""
    if isinstance(value, list | tuple):
        return len(value) <= 64 and all(plain(part) for part in value)
    return (
        value is None
        or isinstance(value, str | bool)
        or (isinstance(value, int | float) and abs(value) <= 65_536)
    )
