"""What must hold on a GPU: every kernel behind its door equals its definition, every unit equals the CPU.

The definition is computed in float64. Each proof yields (what, largest error in units of the largest value,
allowed); `python -m tests.core.gpu` prints them, `test_gpu.py` asserts them where there is CUDA.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

import core
from core import battery, registry
from core.state import map_state, tensors

Line = tuple[str, float, float]
Proof = Callable[[str], Iterator[Line]]

EXACT, CLOSE, HALF = 2e-5, 2e-4, 3e-2
"""Allowed in float32: one kernel, a whole unit. In bfloat16, whose own steps are 1/256."""


def apart(ours: Any, theirs: Any) -> float:
    """The largest difference of two lists of tensors, each in units of 1 + its largest value; NaN is 1e9."""
    worst = 0.0
    for a, b in zip(tensors(ours), tensors(theirs), strict=True):
        assert a.shape == b.shape, f"{tuple(a.shape)} for {tuple(b.shape)}"
        if not b.numel():
            continue
        wide = torch.complex128 if b.is_complex() else torch.float64
        a, b = a.detach().cpu().to(wide), b.detach().cpu().to(wide)
        if not wide.is_complex:
            a, b = torch.nan_to_num(a, nan=1e30, neginf=-1e30), torch.nan_to_num(b, nan=-1e30, neginf=-1e30)
        error = float((a - b).abs().max() / (1 + b.abs().max()))
        worst = max(worst, error if error == error else 1e9)
    return worst


@contextmanager
def counted(module: Any, name: str) -> Iterator[list[int]]:
    """How often a function of a module is called meanwhile: whether a door leads where it should."""
    calls, inner = [0], getattr(module, name)

    def outer(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        return inner(*arguments, **options)

    setattr(module, name, outer)
    try:
        yield calls
    finally:
        setattr(module, name, inner)


def in_full(parts: Any) -> list[Tensor]:
    return [part.to(torch.complex128 if part.is_complex() else torch.float64) for part in parts]


def gradients(outputs: Any, leaves: list[Tensor]) -> list[Tensor]:
    """Of a fixed projection of all outputs."""
    loss = None
    for part in tensors(outputs):
        if not part.requires_grad:
            continue
        whole = part.real + part.imag if part.is_complex() else part
        weight = torch.linspace(-1, 1, whole.numel(), dtype=torch.float64, device=whole.device)
        kept = torch.where(whole.isfinite(), whole, 0).double()
        added = (kept * weight.view(whole.shape)).sum()
        loss = added if loss is None else loss + added
    assert loss is not None
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [
        torch.zeros_like(leaf) if part is None else part for part, leaf in zip(found, leaves, strict=True)
    ]


def chunked_decay(device: str) -> Iterator[Line]:
    """The decay of matrix states: its kernel, its door, resets, odd sizes, half precision, gradients."""
    from core.kernels.matrix_scan import decay_scan, gpu
    from core.kernels.matrix_scan.definition import decay_scan_ref

    for batch, time, heads, key, value in (
        (2, 70, 2, 5, 20), (1, 130, 3, 66, 130), (3, 1, 1, 3, 2), (2, 192, 4, 64, 64),
    ):  # fmt: skip
        for dtype, allowed in ((torch.float32, EXACT), (torch.bfloat16, HALF)):
            q, k = torch.randn(2, batch, time, heads, key, device=device).to(dtype).unbind()
            v = torch.randn(time, batch, heads, value, device=device).to(dtype).transpose(0, 1)
            decay = logsigmoid(torch.randn(batch, time, heads, device=device) * 3)
            state = torch.randn(batch, heads, key, value, device=device)
            for resets in ((), (5, 64)) if time > 64 else ((),):
                decay[0, list(resets)] = -torch.inf
                theirs = decay_scan_ref(*in_full((q, k, v, decay, state)))
                what = f"decay B{batch} T{time} {heads}x{key}x{value} {str(dtype)[6:]} resets {len(resets)}"
                yield what, apart(gpu.forward(q, k, v, decay, state), theirs), allowed
                if device == "cuda":
                    with counted(gpu, "forward") as calls, torch.no_grad():
                        ours = decay_scan(q, k, v, decay, state)
                    assert calls == [1], "its door did not choose the kernel"
                    yield f"{what}, door", apart(ours, theirs), allowed
    leaves = [torch.randn(2, 70, 2, 20, device=device, requires_grad=True) for _ in range(3)]
    decay = torch.randn(2, 70, 2, device=device, requires_grad=True)
    ours = decay_scan(*leaves, logsigmoid(decay))
    full = [part.detach().double().requires_grad_() for part in (*leaves, decay)]
    theirs = decay_scan_ref(*full[:3], logsigmoid(full[3]))
    yield "decay, gradients", apart(gradients(ours, [*leaves, decay]), gradients(theirs, full)), EXACT
    empty = decay_scan(*(torch.zeros(0, 3, 2, 4, device=device) for _ in range(3)))
    yield "decay of no rows", float(tuple(empty[0].shape) != (0, 3, 2, 4)), 0.0


def scan_of_pairs(device: str) -> Iterator[Line]:
    """The recurrence with a 2 x 2 block per channel, both ways."""
    from core.kernels.block_scan import block_scan, gpu
    from core.kernels.block_scan.definition import block_scan_ref

    for batch, time, width in ((2, 7, 20), (3, 200, 37), (1, 1, 1), (2, 129, 16)):
        a = torch.randn(batch, time, 2, 2, width, device=device) * 0.5
        x = torch.randn(time, batch, 2, width, device=device).transpose(0, 1)
        theirs = block_scan_ref(*in_full((a, x)))
        sizes = f"pairs B{batch} T{time} D{width}"
        yield sizes, apart([gpu.forward(a, x)], [theirs]), EXACT
        with counted(gpu, "forward") as calls:
            ours = block_scan(a, x), block_scan(a, x, reverse=True)
        assert device == "cpu" or calls == [2], "its door did not choose the kernel"
        later = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1).transpose(2, 3)
        back = block_scan_ref(*in_full((later.flip(1), x.flip(1)))).flip(1)
        yield f"{sizes}, door, both ways", apart(ours, [theirs, back]), EXACT
    a, x = torch.randn(2, 60, 2, 2, 5, device=device).double() * 0.5, torch.randn(2, 60, 2, 5, device=device)
    yield "pairs float64", apart([gpu.forward(a, x.double())], [block_scan_ref(a, x.double())]), 1e-12


def cudnn_loops(device: str) -> Iterator[Line]:
    """The plain LSTM and GRU by cuDNN: both directions, lengths, states, gradients, any width."""
    from core.blocks.directions import run_directions
    from core.blocks.rows import flip_within
    from core.kernels.gated_loop import gpu, plain_loop

    for name in ("lstm", "gru"):
        for hidden, directions, lengths in (
            (7, 2, None), (130, 2, (33, 1, 20, 33, 7)), (256, 1, None), (40, 1, (3, 33, 9, 10, 1)),
        ):  # fmt: skip
            units = [core.build(name, 12, hidden).to(device) for _ in range(directions)]
            x = torch.randn(33, 5, 12, device=device).transpose(0, 1).requires_grad_()
            states = [map_state(torch.randn_like, unit.initial_state(x)) for unit in units]
            ends = None if lengths is None else torch.tensor(lengths, device=device)
            leaves = [x, *(p for unit in units for p in unit.parameters())]
            y, final = run_directions(units, x, states, lengths=ends)
            full = [core.build(name, 12, hidden).to(device).double() for _ in range(directions)]
            for copy, unit in zip(full, units, strict=True):
                copy.load_state_dict(unit.state_dict())
            given = x.detach().double().requires_grad_()
            outputs, last = [], []
            for number, (unit, state) in enumerate(zip(full, states, strict=True)):
                begin = tuple(part.double() for part in tensors(state))
                seen = flip_within(given, ends) if number else given
                out, after = plain_loop(
                    unit.cell, seen, *unit.input_weights(), begin, unit.weights(), ends
                )  # fmt: skip
                outputs.append(flip_within(out, ends) if number else out)
                last.extend(after)
            theirs = torch.cat(outputs, -1)
            deep = [given, *(p for unit in full for p in unit.parameters())]
            sizes = f"cudnn {name} H{hidden} directions {directions} lengths {lengths is not None}"
            yield sizes, apart([y], [theirs]), CLOSE
            if final is not None:
                yield f"{sizes}, states", apart(tensors(final), last), CLOSE
            yield f"{sizes}, gradients", apart(gradients([y], leaves), gradients([theirs], deep)), CLOSE
            if device == "cuda":
                import core.blocks.directions as door

                with counted(door, "cudnn_layer") as calls, torch.no_grad():
                    run_directions(units, x, states, lengths=ends)
                assert calls == [1], "its door did not choose cuDNN"
                with torch.autocast(device, torch.bfloat16), torch.no_grad():
                    half = run_directions(units, x, states, lengths=ends)[0]
                yield f"{sizes}, autocast", apart([half], [theirs]), HALF
    wide = core.build("lstm", 3, 4).to(device).double()
    x = torch.randn(2, 9, 3, dtype=torch.float64, device=device)
    y, _ = run_directions([wide], x)
    theirs, _ = plain_loop(wide.cell, x, *wide.input_weights(), wide.initial_state(x), wide.weights())
    yield "cudnn leaves float64 alone", apart([y], [theirs]), 1e-12
    assert gpu.MODES


def single_loops(device: str) -> Iterator[Line]:
    """The LSTM and GRU in one direction through their door: lengths, options, half precision, gradients."""
    from core.kernels.gated_loop import gated_loop, gpu, plain_loop

    for name, options in (("lstm", {}), ("gru", {}), ("gru", {"bias": False}), ("gru", {"update": "write"})):
        for batch, time, hidden, lengths in (
            (18, 33, 40, None), (3, 17, 128, (17, 1, 9)), (1, 1, 5, None), (5, 12, 200, (2, 12, 12, 7, 1)),
        ):  # fmt: skip
            unit = core.build(name, 12, hidden, **options).to(device)
            deep = core.build(name, 12, hidden, **options).to(device).double()
            deep.load_state_dict(unit.state_dict())
            x = torch.randn(time, batch, 12, device=device).transpose(0, 1).requires_grad_()
            full = x.detach().double().requires_grad_()
            state = tuple(tensors(map_state(torch.randn_like, unit.initial_state(x))))
            ends = None if lengths is None else torch.tensor(lengths, device=device)
            run = gated_loop if device == "cuda" else on_a_cpu
            with counted(gpu, "cudnn_layer") as calls:
                y, final = run(unit.cell, x, *unit.input_weights(), state, unit.weights(), ends)
                own = unit(x, state if len(state) > 1 else state[0], lengths=ends)
            assert calls == [1 + (device == "cuda")], "its door did not choose cuDNN"
            begin = tuple(part.double() for part in state)
            theirs, last = plain_loop(deep.cell, full, *deep.input_weights(), begin, deep.weights(), ends)
            sizes = f"loop of {name} {options} B{batch} T{time} H{hidden} lengths {lengths is not None}"
            yield sizes, apart([y, *final], [theirs, *last]), EXACT
            yield f"{sizes}, unit", apart(own, (theirs, last)), EXACT
            leaves = [x, *unit.parameters()]
            expected = gradients([theirs, *last], [full, *deep.parameters()])
            yield f"{sizes}, gradients", apart(gradients([y, *final], leaves), expected), CLOSE
            yield f"{sizes}, unit, gradients", apart(gradients(own, leaves), expected), CLOSE
            if time <= 17:
                y, _ = unit(x, state if len(state) > 1 else state[0], lengths=ends)
                theirs, _ = plain_loop(deep.cell, full, *deep.input_weights(), begin, deep.weights(), ends)
                yield f"{sizes}, second derivatives", apart([second(y, x)], [second(theirs, full)]), CLOSE
            if device == "cuda" and unit.library is not None:
                places = {part.untyped_storage().data_ptr() for part in unit.parameters()}
                yield f"{sizes}, pieces of memory", float(len(places) - 1), 0.0
            with torch.autocast(device, torch.bfloat16), torch.no_grad():
                half, _ = run(unit.cell, x, *unit.input_weights(), state, unit.weights(), ends)
            yield f"{sizes}, autocast", apart([half], [theirs]), HALF


def second(y: Tensor, x: Tensor) -> Tensor:
    """A second derivative of y with respect to x."""
    (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def on_a_cpu(cell: Any, x: Tensor, weight: Tensor, bias: Any, state: Any, weights: Any, lengths: Any) -> Any:
    """The GPU's loop on a CPU, where torch computes the same by its own."""
    from core.kernels.gated_loop import gpu

    return gpu.compiled_loop(cell, len(state), [x, weight, bias, *state, *weights], lengths)


def linear_scans(device: str) -> Iterator[Line]:
    """The scan of diagonal units: real, complex, double, half precision, repeated and conjugate inputs."""
    from core.kernels.linear_scan import gpu, linear_scan, linear_scan_ref

    for dtype, allowed in (
        (torch.float32, EXACT), (torch.complex64, EXACT), (torch.bfloat16, HALF), (torch.float64, 1e-12),
    ):  # fmt: skip
        for batch, time, width in ((2, 130, 40), (3, 1, 5), (1, 300, 33)):
            if dtype in (torch.bfloat16, torch.float64) and time != 130:
                continue
            kind = torch.float32 if dtype == torch.bfloat16 else dtype
            a = torch.randn(1, time, 1, dtype=kind, device=device).expand(batch, time, width)
            a = (0.9 * a / (1 + a.abs())).to(dtype)
            x = torch.randn(batch, time, 2 * width, dtype=kind, device=device).to(dtype).chunk(2, -1)[1]
            h0 = torch.randn(batch, width, dtype=kind, device=device).to(dtype)
            ours = [part.detach().requires_grad_() for part in (a, x, h0)]
            deep = [part.detach().requires_grad_() for part in in_full((a, x, h0))]
            if device == "cuda":
                with counted(gpu, "launch") as calls:
                    h = linear_scan(*ours)
                assert calls[0], "its door did not choose the kernel"
            else:
                h = linear_scan(*ours)
                if dtype in (torch.float32, torch.complex64):
                    yield "interpreted", apart([gpu.forward(a, x, h0)], [h]), allowed
            theirs = linear_scan_ref(*deep)
            sizes = f"scan B{batch} T{time} D{width} {str(dtype)[6:]}"
            yield sizes, apart([h], [theirs]), allowed
            if dtype == torch.bfloat16:
                continue
            yield f"{sizes}, gradients", apart(gradients([h], ours), gradients([theirs], deep)), allowed


def unit_proof(name: str, device: str) -> Iterator[Line]:
    """A unit on the device against its steps on the CPU in float64: all modes, gradients, a step, padding."""
    width, batch, time = 32, 3, 70
    torch.manual_seed(1)
    slow = core.build(name, width).double()
    for parameter in slow.parameters():  # zeros at the start would hide errors
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    fast = core.build(name, width)
    fast.load_state_dict(slow.state_dict())
    fast.to(device)
    x = torch.randn(batch, time + 1, width)
    full = x[:, :time].double().requires_grad_()
    y, end = slow(full, None, "step")
    expected = gradients([y, *tensors(end)], [full, *slow.parameters()])
    for mode in fast.modes:
        if mode == "sequential" and len(fast.modes) > 2:
            continue
        here = x[:, :time].to(device).requires_grad_()
        ours, last = fast(here, None, mode)
        allowed = 10 * CLOSE if mode == "convolution" else CLOSE
        yield f"{name} {mode}", apart([ours, *tensors(last)], [y, *tensors(end)]), allowed
        found = gradients([ours, *tensors(last)], [here, *fast.parameters()])
        yield f"{name} {mode}, gradients", apart(found, expected), 10 * allowed
    here = x.to(device)
    with torch.no_grad():
        ours, last = fast(here[:, :time])
        yield f"{name}, no gradient wanted", apart([ours, *tensors(last)], [y, *tensors(end)]), 10 * CLOSE
        one, _ = fast.step(here[:, time], last)
        theirs, _ = slow.step(x[:, time].double(), end)
        yield f"{name}, a step", apart([one], [theirs]), 10 * CLOSE
        with torch.autocast(device, torch.bfloat16):
            half, _ = fast(here[:, :time])
        yield f"{name}, autocast", apart([half], [y]), 5 * HALF
    yield from padded(name, device, fast, here[:, :time])


def padded(name: str, device: str, unit: Any, x: Tensor) -> Iterator[Line]:
    """Rows of different length, whatever the padding holds, against each row alone."""
    stack = core.stack([unit], x.shape[-1])
    lengths = (70, 13, 41)
    given = x.clone()
    for row, length in enumerate(lengths):
        given[row, length:] = torch.nan
    ends = torch.tensor(lengths, device=device)
    y, _ = stack(given, lengths=ends)
    found = gradients([y], list(unit.parameters()))
    alone = [stack(x[row : row + 1, :length])[0] for row, length in enumerate(lengths)]
    whole = torch.zeros_like(y)
    pieces = torch.cat([torch.nn.functional.pad(p, (0, 0, 0, 70 - p.shape[1])) for p in alone])
    yield f"{name}, padded rows", apart([y], [pieces + whole]), CLOSE
    yield (
        f"{name}, padded rows, gradients",
        apart(found, gradients([pieces], list(unit.parameters()))),
        10 * CLOSE,
    )


def streams(device: str) -> Iterator[Line]:
    """A stream of a network on a GPU is refused; one of its copy on the CPU equals its steps there."""
    from core import streaming

    for name in ("gru", "mamba", "gla"):
        unit = core.build(name, 16).to(device)
        x = torch.randn(12, 1, 16)
        with torch.no_grad():
            theirs = unit(x.transpose(0, 1).to(device))[0][0]
        if device == "cuda":
            battery.refused(lambda here=unit: streaming.open(here), "a stream runs on the CPU")
        stream = streaming.open(unit.cpu())
        ours = torch.cat([torch.as_tensor(stream.step(token.numpy())) for token in x])
        yield f"{name}, a stream", apart([ours.view(12, 16)], [theirs]), CLOSE


KERNELS: dict[str, Proof] = {
    "chunked decay": chunked_decay,
    "scan of pairs": scan_of_pairs,
    "cudnn loops": cudnn_loops,
    "single loops": single_loops,
    "linear scans": linear_scans,
    "streams": streams,
}


def battery_proof(name: str, device: str) -> Iterator[Line]:
    """The whole contract battery on the device."""
    for promise in battery.CHECKS:
        said, broken = "", 0.0
        try:
            with torch.device(device):
                promise(battery.Subject(name))
        except Exception as error:
            said, broken = " ".join(f": {type(error).__name__}: {error}".split())[:300], 1.0
        yield f"{name} {promise.__name__}{said}", broken, 0.0


def proofs() -> dict[str, Proof]:
    """By name; what was never seen on a card comes first."""
    units = {f"unit {name}": partial(unit_proof, name) for name in registry.names()}
    contracts = {f"battery {name}": partial(battery_proof, name) for name in registry.names()}
    early = dict(list(KERNELS.items())[:3])
    return early | units | dict(list(KERNELS.items())[3:]) | contracts
