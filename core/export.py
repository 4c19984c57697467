"""ONNX export of units and stacks, checked against torch.

`export_step` writes the graph of one token with the state as explicit inputs and outputs: what a streaming
program on any runtime needs. `export_sequence` writes a graph over any length through one Scan node.
`export_network` writes any network whose inputs and outputs have names.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError, MissingExtraError, WorkError
from core.files import check_place, whole_file
from core.parts.undisturbed import undisturbed
from core.state import rebuild, tensors


class StepGraph(nn.Module):
    """One token: (x (B, I), *state tensors) -> (y (B, H), *state tensors)."""

    def __init__(self, unit: Any) -> None:
        super().__init__()
        self.unit = unit
        self.layout = unit.initial_state(torch.zeros(1, 1, unit.input_size))

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        y, after = self.unit.step(x, rebuild(self.layout, iter(state)))
        return flat(y, after)


class SequenceGraph(StepGraph):
    """Any length: (x (B, T, I), *state tensors) -> (y (B, T, H), *state tensors), one Scan over steps."""

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        from torch._higher_order_ops.scan import scan

        def advance(carry: list[Tensor], token: Tensor) -> tuple[list[Tensor], Tensor]:
            y, after = self.unit.step(token, rebuild(self.layout, iter(carry)))
            # a scan body must not return one tensor twice
            return [part.clone() for part in tensors(after)], y.clone()

        last, outputs = scan(advance, list(state), x.transpose(0, 1))
        return (outputs.transpose(0, 1), *last)


def flat(y: Tensor, state: Any) -> tuple[Tensor, ...]:
    """Outputs of a graph: all different tensors, since a graph must not name one twice."""
    seen = {id(y)}
    parts = []
    for part in tensors(state):
        parts.append(part.clone() if id(part) in seen else part)
        seen.add(id(part))
    return (y, *parts)


def export_step(unit: Any, path: str | Path) -> float:
    """Write the one-step graph with a free batch size; returns the largest difference from torch.

    Raises:
        MissingExtraError: the packages of the extra `export` are missing.
        ConfigError: the unit uses an operator that ONNX does not have.
        WorkError: the graph answers otherwise than torch.
    """
    with undisturbed(unit):
        x = torch.randn(2, unit.input_size)
        return write(StepGraph(unit), x, unit, Path(path), {0: "batch"}, torch.randn(3, unit.input_size))


def export_sequence(unit: Any, path: str | Path) -> float:
    """Write the whole-sequence graph with free batch size and length; errors as in `export_step`."""
    with undisturbed(unit):
        x = torch.randn(2, 5, unit.input_size)
        other = torch.randn(3, 9, unit.input_size)
        return write(SequenceGraph(unit), x, unit, Path(path), {0: "batch", 1: "time"}, other)


class Positional(nn.Module):
    """Any network as a graph: tensors in their order -> all tensors of its answer, each once."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        found = self.network(*inputs)
        first, *others = tensors(found)
        return flat(first, tuple(others))


def export_network(
    network: nn.Module,
    path: str | Path,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    *,
    free: Mapping[str, Mapping[int, str]] | None = None,
    bounds: Mapping[str, tuple[int, int]] | None = None,
    check: Mapping[str, Tensor] | None = None,
    tolerance: float = 1e-4,
) -> float:
    """Write a network as ONNX and compare it with torch; returns the largest relative difference.

    Args:
        inputs: name -> example, in the order of `forward`, whose answer is a tensor or a nesting of them.
        outputs: a name for each tensor of the answer.
        free: input -> axis -> the name of a size that may differ, such as {"wave": {0: "batch", 1: "time"}}.
        bounds: name of a size -> its smallest and largest value; 1 and 1,000,000 when left out.
        check: other inputs, of other sizes where they are free, to compare with.
        tolerance: largest difference allowed, relative to the largest magnitude of the output or 1.

    Raises:
        MissingExtraError: the packages of the extra `export` are missing.
        ConfigError: the network uses an operator that ONNX does not have.
        WorkError: the graph answers otherwise than torch.
    """
    require_onnx()
    check_place(path)
    graph = Positional(network)
    sizes = {
        name: torch.export.Dim(name, min=(bounds or {}).get(name, (1, 0))[0], max=largest)
        for axes in (free or {}).values()
        for name in axes.values()
        for largest in [(bounds or {}).get(name, (1, 1_000_000))[1]]
    }
    shapes = tuple(
        {axis: sizes[size] for axis, size in (free or {}).get(name, {}).items()} or None for name in inputs
    )
    others = {**inputs, **(check or {})}
    what = type(network).__name__
    with undisturbed(network), whole_file(path) as partial:
        save_graph(graph, tuple(inputs.values()), (shapes,), list(inputs), list(outputs), partial, what)
        with torch.no_grad():
            expected = graph(*others.values())
        found = answers(partial, others)
        worst = max(
            float((torch.from_numpy(ours).double() - theirs.double()).abs().max() if theirs.numel() else 0.0)
            / max(1.0, float(theirs.abs().max()) if theirs.numel() else 1.0)
            for ours, theirs in zip(found, expected, strict=True)
        )
        if not worst <= tolerance:
            raise WorkError(f"the ONNX graph of {what} differs from torch by {worst:.2g}.")
    return worst


def write(graph: StepGraph, x: Tensor, unit: Any, path: Path, axes: dict[int, str], other: Tensor) -> float:
    """Export with `x`, check with `other` (another batch and length), write the whole file or nothing."""
    require_onnx()
    check_place(path)
    state = [part.clone() for part in tensors(unit.initial_state(x))]
    names = [f"state{index}" for index in range(len(state))]
    batch = torch.export.Dim("batch", min=1, max=4096)
    dims = {"batch": batch, "time": torch.export.Dim("time", min=1, max=1_000_000)}
    shapes = ({axis: dims[name] for axis, name in axes.items()}, tuple({0: batch} for _ in state))
    outputs = ["y", *(f"{name}_next" for name in names)]
    with whole_file(path) as partial:
        save_graph(graph, (x, *state), shapes, ["x", *names], outputs, partial, type(unit).__name__)
        worst = difference(graph, partial, other, unit)
        if not worst <= 1e-4:
            raise WorkError(f"the ONNX graph of {type(unit).__name__} differs from torch by {worst:.2g}.")
    return worst


def save_graph(
    graph: nn.Module,
    inputs: tuple[Tensor, ...],
    shapes: Any,
    names: list[str],
    outputs: list[str],
    path: Path,
    what: str,
) -> None:
    """Write a graph as ONNX.

    Raises:
        ConfigError: the exporter cannot; `what` is the name of the network in the message.
    """
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph,
                inputs,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=names,
                output_names=outputs,
                verbose=False,
            )
            assert program is not None
            program.save(str(path), external_data=False)
    except Exception as error:  # the exporter wraps any cause in types of its own
        raise ConfigError(f"{what} cannot be written as ONNX: {reason(error)}.") from error


def answers(path: Path, inputs: Mapping[str, Tensor]) -> list[Any]:
    """What onnxruntime answers, as arrays; inputs that the graph has dropped are left out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    known = {value.name for value in session.get_inputs()}
    return list(session.run(None, {name: x.numpy() for name, x in inputs.items() if name in known}))


def reason(error: BaseException) -> str:
    """The first cause behind the exporter's own errors, in one line."""
    text = str(error)
    if "complex" in text:
        return "it computes with complex numbers, which ONNX does not have"
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def difference(graph: StepGraph, path: Path, x: Tensor, unit: Any) -> float:
    """Largest difference between the file in onnxruntime and torch, from a state that is not zero."""
    with torch.no_grad():
        lead = torch.randn(x.shape[0], 3, unit.input_size)
        _, warm = unit(lead)
        start = [part.contiguous() for part in tensors(warm)]
        expected = graph(x, *start)
    feed = {"x": x, **{f"state{index}": part for index, part in enumerate(start)}}
    return max(
        float((torch.from_numpy(ours).double() - theirs.double()).abs().max())
        for ours, theirs in zip(answers(path, feed), expected, strict=True)
    )


def require_onnx() -> None:
    """MissingExtraError unless the packages of the extra `export` are here."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f'ONNX export needs the package {error.name}: pip install "recurra[export]".'
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """The exporter reports its own deprecations as warnings; they are not the caller's business."""
    import logging

    level = logging.getLogger("torch.onnx").level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            yield
        finally:
            logging.getLogger("torch.onnx").setLevel(level)
