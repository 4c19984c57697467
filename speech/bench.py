"""Speed of speech: a live second in blocks of 10 ms, long files, published networks beside toolkits.

`recurra bench speech`. A block may take a tenth of its own length.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from core.bench.memory import peak_of
from core.bench.runner import Case
from core.errors import ConfigError
from speech.layouts import build
from speech.model import load_model
from speech.models import frcrn as frcrn_layers
from speech.models import fsmn_memory
from speech.models import mossformer2 as mossformer2_layers
from speech.models.frcrn import ComplexConv
from speech.models.fsmn_memory import DilatedDense
from speech.peers import rnnoise, rnnoise_library
from speech.precision import HalfProducts
from speech.predict import enhance, open_stream
from speech.toolkits import beside_toolkit

MEMORY = (
    ("mossformer2", "mossformer2-ss", 2.1),
    ("sepformer", "speechbrain-sepformer", 2.0),
    ("frcrn", "frcrn", 1.4),
)
"""Published networks, and what their own code takes for 10 s, in GB."""
Calls = tuple[Callable[[], Any], Callable[[], Any] | None]


def cases() -> list[Case]:
    """Live blocks at two rates, two seconds at once, and the slowest part of MossFormer2."""
    return [
        Case("speech live", "1 s in 10 ms blocks, 16 kHz", lambda: live(16000), "eager torch", limit_us=1e5),
        Case("speech live", "1 s in 10 ms blocks, 48 kHz", lambda: live(48000), "eager torch", limit_us=1e5),
        Case("speech separate", "2 s, 16 kHz", separate),
        Case(
            "mossformer2 separation",
            "55.7 M, 1 s, 16 kHz",
            lambda: mossformer2(),
            "its layers as published",
            target=0.4,
            repeats=2,
        ),
        Case(
            "mossformer2, products in bfloat16",
            "55.7 M, 1 s, 16 kHz",
            lambda: mossformer2(half=True),
            "its layers as published, float32",
            target=0.25,
            repeats=2,
        ),
        Case(
            "sepformer",
            "25.7 M, 2 s, 8 kHz",
            lambda: beside_toolkit("speechbrain-sepformer", 2.0),
            "speechbrain",
            target=0.67,
            repeats=2,
        ),
        Case(
            "conv-tasnet",
            "5.1 M, 2 s, 8 kHz",
            lambda: beside_toolkit("asteroid-conv-tasnet", 2.0),
            "asteroid",
            repeats=3,
        ),
        Case(
            "dprnn", "3.6 M, 2 s, 8 kHz", lambda: beside_toolkit("asteroid-dprnn", 2.0), "asteroid", repeats=3
        ),
        Case("frcrn", "14 M, 1 s, 16 kHz", frcrn, "its layers as published", target=0.67, repeats=2),
        Case("speech enhance", "2 s, 48 kHz", beside_rnnoise, "RNNoise", repeats=5),
        *(
            Case(
                f"{name}, peak memory",
                "10 s, 16 kHz",
                value=partial(peak, layout),
                unit="GB",
                at_most=most,
            )
            for name, layout, most in MEMORY
        ),
        Case("mossformer2 dense memory", "D 256, 2000 frames", dense, "grouped 2-D convolution", target=0.4),
    ]


def live(rate: int) -> Calls:
    """A second through a stream, compiled and as torch operators; a frame is due in two of three blocks."""
    model = load_model()
    ours, peer = open_stream(model, rate), open_stream(model, rate)
    peer.core.quick = None
    block = (0.1 * np.random.default_rng(0).standard_normal(rate // 100)).astype(np.float32)

    def second(stream: Any) -> None:
        for _ in range(100):
            stream.feed(block)

    return lambda: second(ours), lambda: second(peer)


def separate() -> Calls:
    network = load_model(None, "separate").network
    wave = 0.1 * torch.randn(1, 32000, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def ours() -> Any:
        return network(wave)

    return ours, None


def mossformer2(half: bool = False) -> Calls:
    """The published size with random weights, beside the same layers as torch has them: transposes around
    every depthwise convolution, groups of two channels in a 2-D kernel."""
    network: Any = build("mossformer2-ss", {}).eval()
    wave = 0.05 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def ours() -> Any:
        with HalfProducts() if half else nullcontext():
            return network(wave)

    def peer() -> Any:
        with torch.no_grad(), as_published(DilatedDense, plain_dense, mossformer2_layers, fsmn_memory):
            return network(wave)

    return ours, peer


def peak(layout: str) -> float:
    """GB that a process takes which separates or cleans 10 s."""
    return peak_of(whole, layout, 10.0)[1] / 1e9


def whole(layout: str, seconds: float) -> None:
    """A wave through a network of the published size."""
    with torch.inference_mode():
        build(layout, {}).eval()(0.05 * torch.randn(1, int(16000 * seconds)))


def frcrn() -> Calls:
    """The published size with random weights, beside its layers as published: complex ones of four real
    convolutions, transposed ones as torch has them, memories with transposes around their convolution."""
    network: Any = build("frcrn", {}).eval()
    wave = 0.05 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))

    def plain(layer: Any, x: Any) -> Any:
        re, im = (getattr(layer, name) for name in layer.names)
        a, b = x
        return re(a) - im(b), re(b) + im(a)

    @torch.inference_mode()
    def ours() -> Any:
        return network(wave)

    def peer() -> Any:
        with torch.no_grad(), as_published(ComplexConv, plain, frcrn_layers):
            return network(wave)

    return ours, peer


def beside_rnnoise() -> Calls:
    """The bundled network on a file beside the library of RNNoise.

    Raises:
        ConfigError: pyrnnoise is not installed.
    """
    if rnnoise_library() is None:
        raise ConfigError("RNNoise is not here: pip install pyrnnoise")
    model = load_model()
    wave = (0.1 * np.random.default_rng(0).standard_normal(96000)).astype(np.float32)
    return lambda: enhance(wave, 48000, weights=model), lambda: rnnoise(wave, 48000)


@contextmanager
def as_published(layer: type, plain: Callable[..., Any], *modules: ModuleType) -> Iterator[None]:
    """Inside, a layer runs as `plain` and no loop of these modules is compiled."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(layer, "forward", plain))
        for module in modules:
            stack.enter_context(patch.object(module, "compiled_here", lambda _: False))
        yield


def plain_dense(part: Any, x: torch.Tensor) -> torch.Tensor:
    """Two grouped 2-D convolutions of (B, D, S), as published."""
    skip = x[..., None]
    y = skip
    stages: list[Any] = [(part.conv1, part.norm1, part.prelu1), (part.conv2, part.norm2, part.prelu2)]
    for i, (conv, norm, prelu) in enumerate(stages, 1):
        y = prelu(norm(conv(torch.nn.functional.pad(skip, (0, 0, 19 * i, 19 * i)))))
        skip = torch.cat([y, skip], 1)
    return y[..., 0]


def dense() -> Calls:
    """Two depthwise convolutions in place of one with groups of two channels."""
    part: Any = DilatedDense(256).eval()
    x = torch.randn(1, 256, 2000, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def ours() -> Any:
        return part(x)

    @torch.inference_mode()
    def peer() -> Any:
        return plain_dense(part, x)

    return ours, peer
