"""Rows of different length: padding is padding, whatever it holds and however the rows are grouped."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close

import core
from core import registry
from core.blocks import groups as grouping
from core.blocks.groups import cheapest, grouped
from core.blocks.stack import Stack
from core.state import rows, tensors
from core.units.contract import Unit

WIDTH = 6
every_unit = pytest.mark.parametrize("name", registry.names())
KINDS = (
    "lstm",
    "indrnn",
    "min_gru",
    "s4",
    "lru",
    "mamba",
    "rg_lru",
    "gla",
    "gated_delta_net",
    "rwkv4",
    "rwkv7",
    "mlstm",
)
LENGTHS = torch.tensor([5, 9, 1, 7, 0, 3])


@pytest.fixture
def _many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls cost nothing, so that the few rows of a test fall into several groups."""
    monkeypatch.setattr(grouping, "CALL", 1)


def padded(filling: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(len(LENGTHS), 9, WIDTH, dtype=torch.float64, generator=generator)
    valid = torch.arange(9) < LENGTHS[:, None]
    return torch.where(valid[..., None], x, filling), valid


def gradients(net: Any, y: Tensor, x: Tensor) -> list[Tensor]:
    parts = [x, *net.parameters()]
    weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(4))
    found = torch.autograd.grad((y * weight).sum(), parts, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parts, strict=True)]


# the battery asks every unit for padding in one group; here one unit of each kind runs in several
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.usefixtures("_many_groups")
@pytest.mark.parametrize(("residual", "final"), [(False, True), (True, False)])
def test_padding_of_any_kind_changes_nothing(name: str, residual: bool, final: bool) -> None:
    torch.manual_seed(0)
    directions = 2 if residual else 1
    net = core.stack(name, WIDTH, layers=2, directions=directions, residual=residual, merge="sum").double()
    clean, valid = padded(0.0)
    clean.requires_grad_()
    alone = torch.zeros(len(LENGTHS), 9, net.output_size, dtype=torch.float64)
    for row, length in enumerate(LENGTHS.tolist()):
        alone[row, :length] = net(clean[row : row + 1, :length])[0][0]
    expected = gradients(net, alone, clean)
    for filling in (1.0, float("nan")):
        x = padded(filling)[0].requires_grad_()
        for how in ({"lengths": LENGTHS}, {"mask": valid}):
            y, end = net(x, **how, final=final)
            assert (end is None) == (not final)
            assert not y[~valid].any()
            assert_close(y, alone, rtol=1e-9, atol=1e-9)
            for ours, theirs in zip(gradients(net, y, x), expected, strict=True):
                assert_close(ours, theirs, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("mode", ["sequential", "newton"])
@pytest.mark.parametrize("final", [False, True])
def test_a_recurrence_that_grows_stands_still_on_padding(mode: str, final: bool) -> None:
    net = core.stack("indrnn", WIDTH)
    unit: Any = net.units[0]
    with torch.no_grad():
        unit.weight_hh.fill_(2.0)
        unit.bias.fill_(1.0)
    x = torch.rand(2, 400, WIDTH)
    y, _ = net(x, lengths=torch.tensor([20, 12]), mode=mode, final=final)
    y.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


class Growing(Unit):
    """A unit of somebody else's, whose run knows nothing of lengths and overflows on padding."""

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_ones(x.shape[0], self.hidden_size)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.rate = torch.nn.Parameter(torch.full((hidden_size,), 3.0))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = self.rate * state + x
        return h, h

    def run(self, x: Tensor, state: Tensor, mode: str) -> tuple[Tensor, Tensor]:
        outputs = []
        for token in x.unbind(1):
            y, state = self.step(token, state)
            outputs.append(y)
        return torch.stack(outputs, 1), state


@pytest.mark.parametrize("final", [False, True])
def test_units_that_know_nothing_of_lengths_are_exact_too(final: bool) -> None:
    assert not Growing.freezes
    net = core.stack("gru", WIDTH)
    net.units[0] = unit = Growing(WIDTH, WIDTH)
    x = torch.rand(3, 200, WIDTH)
    y, end = net(x, lengths=torch.tensor([3, 9, 5]), final=final)
    y.sum().backward()
    assert unit.rate.grad is not None
    whole = unit.rate.grad.clone()
    unit.rate.grad = None
    for row, length in enumerate((3, 9, 5)):
        alone, last = unit(x[row : row + 1, :length])
        alone.sum().backward()
        assert_close(y[row, :length], alone[0])
        if final:
            assert_close(end[0][row], last[0])
    assert_close(whole, unit.rate.grad)


def test_look_ahead_sees_no_padding_of_others() -> None:
    net = core.stack("fsmn", WIDTH, look_ahead=2).double()
    x = padded(float("nan"))[0]
    y, _ = net(x, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        assert_close(y[row, :length], net(x[row : row + 1, :length])[0][0])


def test_groups_leave_less_padding_than_calls_cost() -> None:
    falling = [100] * 4 + [50] * 4 + [10] * 8
    assert cheapest(falling, 1e9, 4) == [0]
    assert cheapest(falling, 1, 4) == [0, 4, 8]
    assert cheapest(falling, 1, 2) == [0, 8]
    found = grouped([3, 0, 9, 3], 1 << 16, causal=False, most=4)
    assert found == [((2, 9),), ((0, 3), (3, 3))]
    long = list(range(200, 0, -1))
    cuts = cheapest(long, 1, 4)
    waste = sum(
        long[first] * (stop - first) - sum(long[first:stop])
        for first, stop in zip(cuts, [*cuts[1:], 200], strict=True)
    )
    assert len(cuts) == 4
    assert waste / sum(long) < 0.3


@every_unit
def test_a_batch_of_nothing_trains(name: str) -> None:
    torch.manual_seed(0)
    nothing = torch.zeros(2, 5, WIDTH)
    for module in (core.build(name, WIDTH), core.stack(name, WIDTH, layers=2)):
        calls: list[tuple[Tensor, dict[str, Any]]] = [(torch.zeros(0, 5, WIDTH), {})]
        if isinstance(module, Stack):
            calls.append((torch.zeros(0, 5, WIDTH), {"reset": torch.zeros(0, 5)}))
            calls.append((nothing, {"lengths": torch.zeros(2, dtype=torch.long)}))
        for x, options in calls:
            module.zero_grad()
            leaf = x.clone().requires_grad_()
            module(leaf, **options)[0].sum().backward()
            assert leaf.grad is not None
            assert all(p.grad is not None and not p.grad.any() for p in module.parameters() if p.numel())


def test_a_packed_batch_honours_resets_and_refuses_the_rest() -> None:
    net, x = core.stack("gru", WIDTH, layers=2), torch.randn(2, 7, WIDTH)
    lengths, reset = torch.tensor([7, 5]), torch.zeros(2, 7, dtype=torch.bool)
    reset[:, 3] = True
    packed = pack_padded_sequence(x, lengths, batch_first=True)
    y, _ = pad_packed_sequence(net(packed, reset=reset)[0], batch_first=True)
    assert_close(y, net(x, lengths=lengths, reset=reset)[0])
    for wrong in ({"lengths": lengths}, {"mask": ~reset}, {"reset": torch.ones(1)}):
        with pytest.raises(ValueError, match=r"PackedSequence|reset must be"):
            net(packed, **wrong)


def test_masks_are_true_or_false() -> None:
    net, x = core.stack("gru", WIDTH), torch.randn(2, 5, WIDTH)
    keep = torch.tensor([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1]]).bool()
    expected, _ = net(x, mask=keep)
    for same in (keep.long(), keep.float(), keep.numpy(), keep.numpy().astype(np.uint8)):
        assert torch.equal(net(x, mask=same)[0], expected)
    additive, holes = torch.where(keep, 0.0, -torch.inf), torch.where(keep, 1.0, torch.nan)
    for wrong in (keep.to(torch.uint8) * 255, keep.long() * 2, keep * 0.7, additive, holes):
        for name in ("mask", "reset"):
            with pytest.raises(ValueError, match=f"{name} must be boolean or of zeros and ones"):
                net(x, **{name: wrong})
    with pytest.raises(ValueError, match="lengths must be 2 integers"):
        net(x, lengths=torch.tensor([True, False]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.usefixtures("_many_groups")
def test_groups_keep_the_type_and_second_derivatives(dtype: torch.dtype) -> None:
    net = core.stack("min_gru", WIDTH).to(dtype)
    x = torch.randn(4, 8, WIDTH, dtype=dtype, requires_grad=True)
    y, end = net(x, lengths=torch.tensor([8, 2, 5, 1]))
    assert y.dtype == dtype
    (first,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
    first.float().square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert not x.grad[1, 2:].any()
    assert all(part.shape[0] == 4 for part in tensors(rows(end, slice(0, 4))))


@pytest.mark.usefixtures("_many_groups")
def test_devices_whose_memory_cannot_be_copied_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    net = core.stack("min_gru", WIDTH, layers=2, residual=True).double()
    x, _ = padded(float("nan"))
    x.requires_grad_()
    found = []
    for copied in (True, False):
        if not copied:
            monkeypatch.setattr("core.parts.ragged.by_copy", lambda *parts: False)
        y, _ = net(x, lengths=LENGTHS)
        found.append([y, *gradients(net, y, x)])
    for ours, theirs in zip(*found, strict=True):
        assert_close(ours, theirs)


def test_options_of_a_unit_do_not_hide_its_groups_of_rows() -> None:
    assert core.build("mamba2", 8, groups=1).row_groups == 4
