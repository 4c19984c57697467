"""The published toolkits beside our forms of their networks: same weights, same input, where they install.

    asteroid      Conv-TasNet, DPRNN      pip install --no-deps asteroid asteroid-filterbanks
    speechbrain   SepFormer               pip install --no-deps speechbrain hyperpyyaml

Both ask for far more packages than these networks need, so they are no extra of ours.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from speech.layouts import build, published_name

HOW = {
    "asteroid": "pip install --no-deps asteroid asteroid-filterbanks",
    "speechbrain": "pip install --no-deps speechbrain hyperpyyaml",
}
TOLERANCE = 1e-3
"""Relative difference of the two answers above which they are not the same network."""


def toolkit(name: str, module: str) -> Any:
    """A module of a toolkit.

    Raises:
        ConfigError: it is not installed, or does not run with what is.
    """
    try:
        return import_module(module)
    except Exception as error:  # a toolkit that meets newer packages than its own raises anything
        raise ConfigError(f"{name} is not here ({type(error).__name__}): {HOW[name]}") from error


def conv_tasnet() -> nn.Module:
    return toolkit("asteroid", "asteroid.models").ConvTasNet(n_src=2, sample_rate=8000)


def dprnn() -> nn.Module:
    return toolkit("asteroid", "asteroid.models").DPRNNTasNet(n_src=2, sample_rate=8000)


class SpeechbrainSepFormer(nn.Module):
    """The parts of a published recipe, joined as its `separate_batch` does."""

    def __init__(self) -> None:
        super().__init__()
        parts = toolkit("speechbrain", "speechbrain.lobes.models.dual_path")
        block = {
            "num_layers": 8,
            "d_model": 256,
            "nhead": 8,
            "d_ffn": 1024,
            "dropout": 0.0,
            "use_positional_encoding": True,
            "norm_before": True,
        }
        self.encoder = parts.Encoder(kernel_size=16, out_channels=256)
        inside, across = (parts.SBTransformerBlock(**block) for _ in range(2))
        words = {"num_layers": 2, "norm": "ln", "K": 250, "num_spks": 2, "skip_around_intra": True}
        words["linear_layer_after_inter_intra"] = False
        self.masknet = parts.Dual_Path_Model(256, 256, inside, across, **words)
        self.decoder = parts.Decoder(256, 1, kernel_size=16, stride=8, bias=False)

    def forward(self, wave: Tensor) -> Tensor:
        w = self.encoder(wave)
        masked = self.masknet(w) * w
        waves = torch.stack([self.decoder(part) for part in masked], 1)
        return nn.functional.pad(waves, (0, max(0, wave.shape[1] - waves.shape[2])))[..., : wave.shape[1]]


TOOLKITS: dict[str, tuple[str, Callable[[], nn.Module], int]] = {
    "asteroid-conv-tasnet": ("asteroid", conv_tasnet, 8000),
    "asteroid-dprnn": ("asteroid", dprnn, 8000),
    "speechbrain-sepformer": ("speechbrain", SpeechbrainSepFormer, 8000),
}
"""Layout -> toolkit, its network, samples per second."""


def beside_toolkit(layout: str, seconds: float = 1.0) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Our network and the toolkit's, with the same random weights, on the same wave.

    Raises:
        ConfigError: the toolkit is not here, or answers otherwise.
    """
    name, make, rate = TOOLKITS[layout]
    theirs = make().eval()
    ours: Any = build(layout, {}).eval()
    weights = {published_name(key): tensor for key, tensor in ours.state_dict().items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    if unexpected or any(key in weights for key in missing):
        raise ConfigError(f"{name} names its tensors otherwise: {', '.join(unexpected[:3])}.")
    wave = 0.05 * torch.randn(1, int(seconds * rate), generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def own() -> Tensor:
        return ours(wave)

    @torch.no_grad()
    def other() -> Tensor:
        return theirs(wave)

    a, b = own(), other()
    if not float((a - b).abs().max()) <= TOLERANCE * float(b.abs().max()):
        raise ConfigError(f"{name} answers otherwise than our form of its network.")
    return own, other
