"""Speed of speech on one thread: a live block of 10 ms beside the same network in eager torch; long files.

`recurra bench speech`. A block may take a tenth of its own length.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from core.bench.runner import Case
from speech.model import load_model
from speech.models.mossformer2 import DilatedDense
from speech.predict import open_stream

Calls = tuple[Callable[[], Any], Callable[[], Any] | None]


def cases() -> list[Case]:
    """Live blocks at two rates, two seconds at once, and the slowest part of MossFormer2."""
    return [
        Case("speech live block", "10 ms, 16 kHz", lambda: live(16000), "eager torch", limit_us=1000),
        Case("speech live block", "10 ms, 48 kHz", lambda: live(48000), "eager torch", limit_us=1000),
        Case("speech separate", "2 s, 16 kHz", separate),
        Case("mossformer2 dense memory", "D 256, 2000 frames", dense, "grouped 2-D convolution", target=0.4),
    ]


def live(rate: int) -> Calls:
    """Blocks through a stream, compiled and as torch operators."""
    model = load_model()
    ours, peer = open_stream(model, rate), open_stream(model, rate)
    peer.core.quick = None
    block = (0.1 * np.random.default_rng(0).standard_normal(rate // 100)).astype(np.float32)
    return lambda: ours.feed(block), lambda: peer.feed(block)


def separate() -> Calls:
    network = load_model(None, "separate").network
    wave = 0.1 * torch.randn(1, 32000, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def ours() -> Any:
        return network(wave)

    return ours, None


def dense() -> Calls:
    """Two depthwise convolutions in place of one with groups of two channels."""
    part: Any = DilatedDense(256).eval()
    x = torch.randn(1, 256, 2000, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def ours() -> Any:
        return part(x)

    @torch.inference_mode()
    def peer() -> Any:
        skip = x[..., None]
        stages: list[Any] = [(part.conv1, part.norm1, part.prelu1), (part.conv2, part.norm2, part.prelu2)]
        for i, (conv, norm, prelu) in enumerate(stages, 1):
            padded = torch.nn.functional.pad(skip, (0, 0, 19 * i, 19 * i))
            y = prelu(norm(conv(padded)))
            skip = torch.cat([y, skip], 1)
        return y

    return ours, peer
