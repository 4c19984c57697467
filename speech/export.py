"""Networks as ONNX, on real and imaginary parts of spectra, checked against torch in onnxruntime.

    stream     x (1, 2 F), *state -> y (1, 2 F) or (1, S, 2 F), *state: one frame; real parts first
    whole      x (1, T, F, 2) -> y (1, S, T, F, 2): a window of so many frames at once
    published  see `speech.published_export`

What turns waves into frames stands in the metadata: rate, window, hop, the window's shape, latency. Runtimes
have one operator for an LSTM or GRU, so the units of the network become torch's own layers first.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError, WorkError
from core.export import answers, require_onnx, save_graph
from core.files import check_place, whole_file
from core.state import tensors
from speech.model import LAYOUT, Model
from speech.models.separate import SeparateNet
from speech.models.torch_layers import fused

RATE = 16000
TOLERANCE = 1e-4
WINDOW_S = 6.0
"""Of a network that needs the whole recording: longer ones go through it in overlapping windows."""


def rebuilt(layout: Any, parts: Iterator[Tensor]) -> Any:
    """The nesting of `layout`, dictionaries too, around other tensors."""
    if isinstance(layout, Tensor):
        return next(parts)
    if isinstance(layout, Mapping):
        return {name: rebuilt(part, parts) for name, part in layout.items()}
    return tuple(rebuilt(part, parts) for part in layout)


def flat(state: Any) -> list[Tensor]:
    """All tensors of a nesting, in the order of `rebuilt`."""
    if isinstance(state, Mapping):
        return [tensor for part in state.values() for tensor in flat(part)]
    return list(tensors(state))


class OneFrame(nn.Module):
    """x (1, 2 F) and the state -> y and the state."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network
        self.layout = network.initial_state(torch.zeros(1, 1))  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        y, after = self.network.step(x, rebuilt(self.layout, iter(state)))
        return y, *(part.clone() for part in flat(after))


class AllFrames(nn.Module):
    """x (1, T, F, 2) -> every talker (1, S, T, F, 2)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.tracks_of_parts(x, None)[0]


def export_onnx(model: Model, path: str | Path, *, stream: bool = False, seconds: float = WINDOW_S) -> float:
    """Write a network; returns the largest difference from torch, relative to the largest output.

    `seconds`: what a graph of whole windows takes at once.

    Raises:
        MissingExtraError: the packages of the extra `export` are missing.
        ConfigError: the network has no such form, or uses an operator that ONNX does not have.
        WorkError: the graph answers otherwise than torch.
    """
    require_onnx()
    check_place(path)
    network: Any = model.network
    causal = hasattr(network, "step") and getattr(getattr(network, "config", None), "causal", True)
    if stream and not causal:
        raise ConfigError(f"{model.name} needs the whole recording and cannot be exported as a stream.")
    if not seconds > 0:
        raise ConfigError(f"a window lasts more than 0 s, got {seconds}.")
    if not stream and not model.streams and LAYOUT in model.card.settings:
        from speech.published_export import export_published

        with torch.no_grad():
            worst, settings = export_published(model, path, seconds)
        describe(Path(path), {**settings, "weights": model.name, "task": model.card.task})
        return worst
    if not stream and not isinstance(network, SeparateNet):
        raise ConfigError(f"{model.name} is exported frame by frame: add --stream.")
    frames = -(-int(seconds * RATE) // network.hop) + 1
    ends = f"{network.window - network.hop} zeros before the wave"
    if getattr(network, "ends", "zeros") == "reflect":
        ends = f"the first and last {network.hop} samples mirrored beyond the ends of the wave"
    settings = {
        "rate": RATE,
        "window": network.window,
        "hop": network.hop,
        "window_shape": "square root of the periodic Hann window, for analysis and synthesis",
        "ends": ends,
        "frames": "x is (1, 2 F): real parts, then imaginary ones" if stream else f"x is (1, {frames}, F, 2)",
        "latency_samples": network.window - 1 if stream else "the whole wave",
        "weights": model.name,
        "task": model.card.task,
    }
    with torch.no_grad(), whole_file(path) as partial:
        worst = write_stream(network, partial) if stream else write_whole(network, partial, frames)
        if not worst <= TOLERANCE:
            raise WorkError(f"the ONNX graph of {model.name} differs from torch by {worst:.2g}.")
        describe(partial, settings)
    return worst


def write_stream(network: Any, path: Path) -> float:
    """The graph of one frame; checked after three frames of noise."""
    graph = OneFrame(fused(network))
    x = torch.randn(1, network.input_size)
    state = flat(graph.layout)
    names = [f"state{index}" for index in range(len(state))]
    outputs = ["y", *(f"{name}_next" for name in names)]
    save_graph(graph, (x, *state), None, ["x", *names], outputs, path, type(network).__name__)
    before = network.initial_state(torch.zeros(1, 1))
    frames = torch.randn(4, 1, network.input_size)
    for frame in frames[:3]:
        _, before = network.step(frame, before)
    wanted, after = network.step(frames[3], before)
    feed = {"x": frames[3], **dict(zip(names, flat(before), strict=True))}
    found = answers(path, feed)
    return max(distance(a, b) for a, b in zip(found, [wanted, *flat(after)], strict=True))


def write_whole(network: SeparateNet, path: Path, frames: int) -> float:
    """The graph of a window of so many frames; checked with another one."""
    graph = AllFrames(fused(network))
    x, other = (torch.randn(1, frames, network.bins + 1, 2) for _ in range(2))
    save_graph(graph, (x,), None, ["x"], ["y"], path, type(network).__name__)
    return distance(answers(path, {"x": other})[0], AllFrames(network)(other))


def distance(found: Any, wanted: Tensor) -> float:
    """Largest difference, relative to the largest magnitude or 1."""
    return float((torch.from_numpy(found) - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))


def describe(path: Path, settings: Mapping[str, Any]) -> None:
    """Put settings into the metadata of an ONNX file."""
    import onnx

    graph = onnx.load(str(path))
    onnx.helper.set_model_props(graph, {key: str(value) for key, value in settings.items()})
    onnx.save(graph, str(path))
