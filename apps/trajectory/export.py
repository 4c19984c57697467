"""Trajectory networks as ONNX: positions in, predictions out, checked against torch.

A window model takes `past` (B, T+1, D) in metres, float64, since float32 forgets centimetres far from the
origin. A stateful model is exported as one step: a velocity and the carried state in, both out.
"""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apps.trajectory.models.predictor import Predictor
from apps.trajectory.models.vector import VectorPredictor
from core.blocks.stack import Stack
from core.errors import DataError, WorkError
from core.export import require_onnx, save_graph
from core.files import check_place, whole_file
from core.layouts.torch_nn import torch_nn_state_dict
from core.state import rebuild, tensors

FUSED = {"GRU": nn.GRU, "LSTM": nn.LSTM}
"""Units that ONNX has as one operator."""


class OneOperator(nn.Module):
    """A stack of GRUs or LSTMs as torch's own module, which becomes one ONNX operator a layer."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        first: Any = stack.units[0]
        kind = FUSED[type(first).__name__]
        self.input_size, self.output_size = first.input_size, first.hidden_size
        self.net = kind(first.input_size, first.hidden_size, stack.layers, batch_first=True)
        self.net.load_state_dict(torch_nn_state_dict(stack))

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if state is None:
            y, end = self.net(x)
        else:
            y, end = self.net(x, torch.stack(list(state)))
        return y, tuple(end.unbind(0)) if isinstance(end, Tensor) else end


class Unrolled(nn.Module):
    """A stack of any other unit, step by step: a window has a fixed length."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack, self.input_size, self.output_size = stack, stack.input_size, stack.output_size

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self.stack(x, state, mode="step")


def exportable(encoder: Any) -> Any:
    """An encoder without compiled operators."""
    if not isinstance(encoder, Stack):
        return encoder
    try:
        return OneOperator(encoder) if type(encoder.units[0]).__name__ in FUSED else Unrolled(encoder)
    except ValueError:  # a variant that torch does not have
        return Unrolled(encoder)


class WindowGraph(nn.Module):
    """past (B, T+1, D) -> mean (B, K, D), spread (B, K)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = deepcopy(network)
        if isinstance(network, VectorPredictor):
            self.network.network.gru1 = exportable(self.network.network.gru1)
            self.network.network.gru2 = exportable(self.network.network.gru2)
        else:
            self.network.encoder = exportable(self.network.encoder)

    def forward(self, past: Tensor) -> tuple[Tensor, Tensor]:
        found = self.network(past)
        return found.mean, found.spread


class StepGraph(nn.Module):
    """velocity (B, D), *state -> mean (B, K, D) from the newest position, spread (B, K), *state."""

    def __init__(self, network: Predictor) -> None:
        super().__init__()
        self.network = network
        self.layout = network.initial_state(torch.zeros(1, network.dims))

    def forward(self, velocity: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        found, after = self.network.step(velocity, rebuild(self.layout, iter(state)))
        return (found.mean, found.spread, *(part.clone() for part in tensors(after)))


def export_onnx(network: nn.Module, path: str | Path, about: Mapping[str, str] | None = None) -> float:
    """Write a network as ONNX; returns the largest difference of its means from torch, in metres.

    Args:
        about: what the file says of itself in its metadata, see `metadata`.

    Raises:
        MissingExtraError: the extra `export` is not installed.
        ConfigError: an operator that ONNX does not have.
        WorkError: the graph disagrees with torch.
    """
    require_onnx()
    check_place(path)
    network = network.eval()
    stateful = isinstance(network, Predictor) and network.config.stateful
    if isinstance(network, Predictor) and stateful:
        graph: nn.Module = StepGraph(network)
        inputs, check = (step_inputs(network, batch) for batch in (5, 3))
        count = len(inputs) - 1
        names = ["velocity", *(f"state{index}" for index in range(count))]
        outputs = ["offsets", "spread", *(f"state{index}_next" for index in range(count))]
    else:
        graph = WindowGraph(network)
        inputs, check = (window_inputs(network, batch) for batch in (5, 3))
        names, outputs = ["past"], ["positions", "spread"]
    batch = torch.export.Dim("batch", min=1, max=65_536)
    shapes: Any = ({0: batch}, tuple({0: batch} for _ in inputs[1:])) if stateful else ({0: batch},)
    with whole_file(path) as partial:
        save_graph(graph, inputs, shapes, names, outputs, partial, "the network")
        if about:
            write_metadata(partial, about)
        with torch.no_grad():
            expected = graph(*check)[0]
        found = session(partial)(*(part.numpy() for part in check))[0]
        worst = float((torch.from_numpy(found).double() - expected.double()).abs().max())
        if not worst < 1e-3:
            raise WorkError(f"the ONNX graph differs from torch by {worst:.2g} m.")
    return worst


def metadata(model: Any) -> dict[str, str]:
    """What a client needs beside the graph: `dt`, `history`, `horizon`, `dims`, `axes`, `unit`, and the
    factors of the conformal balls as JSON, level -> one number a step. Ball k is factor_k times spread_k.
    """
    axes = ["east", "north", "up"][: model.dims] if model.dims <= 3 else []
    told = {
        "model": model.name,
        "dt": f"{model.dt:g}",
        "history": str(model.history),
        "horizon": str(model.horizon),
        "dims": str(model.dims),
        "axes": ",".join(axes),
        "unit": "m",
        "any_step": "lengths times dt / step in, times step / dt out" if model.follows else "dt only",
    }
    if model.calibration is not None:
        factors = {
            f"{level:g}": [None if not np.isfinite(value) else round(float(value), 5) for value in column]
            for level, column in zip(model.calibration.levels, model.calibration.factors.T, strict=True)
        }
        told["factors"] = json.dumps(factors)
    return told


def write_metadata(path: Path, about: Mapping[str, str]) -> None:
    """Put words into an ONNX file that is written already."""
    import onnx

    graph = onnx.load(str(path))
    for key, value in about.items():
        entry = graph.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(graph, str(path))


def window_inputs(network: Any, batch: int) -> tuple[Tensor, ...]:
    """Smooth flights at some speed, far from the origin."""
    dims = network.network.fc.out_features if isinstance(network, VectorPredictor) else network.dims
    generator = torch.Generator().manual_seed(batch)
    steps = torch.randn(batch, network.history, dims, generator=generator, dtype=torch.float64)
    return (10 + (0.05 * steps).cumsum(1).cumsum(1),)


def step_inputs(network: Predictor, batch: int) -> tuple[Tensor, ...]:
    """A velocity, and a state that has seen three others."""
    generator = torch.Generator().manual_seed(batch)
    velocities = torch.randn(4, batch, network.dims, generator=generator)
    state = network.initial_state(velocities[0])
    with torch.no_grad():
        for velocity in velocities[:3]:
            _, state = network.step(velocity, state)
    return (velocities[3], *(part.contiguous() for part in tensors(state)))


def session(path: str | Path) -> Callable[..., list[np.ndarray]]:
    """An ONNX file as a function of arrays, on one thread.

    The function raises DataError for an array whose sizes are not those of the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    run: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {value.name: value.shape for value in run.get_inputs()}

    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        for (name, shape), array in zip(inputs.items(), arrays, strict=True):
            fits = len(shape) == array.ndim and all(
                isinstance(size, str) or size == found for size, found in zip(shape, array.shape, strict=True)
            )
            if not fits:
                raise DataError(f"{name} has the shape {array.shape}; the graph takes {tuple(shape)}.")
        return run.run(None, dict(zip(inputs, arrays, strict=True)))

    return call
