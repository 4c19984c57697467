"""The contract battery: every registered unit, in every mode it states."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import core
from core import registry
from core.blocks.stack import Stack
from core.state import State, choose, detach, join, map_state, rows, tensors
from core.units.contract import MODES, Unit
from tests.core.units.variants import VARIANTS

CASES = [(name, options) for name in registry.names() for options in [{}, *VARIANTS.get(name, [])]]
IDS = [name + "".join(f"-{key}={value}" for key, value in options.items()) for name, options in CASES]
every_unit = pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
WIDTH = 8


def make(name: str, options: dict[str, Any], dtype: torch.dtype = torch.float64) -> Unit:
    torch.manual_seed(1)
    unit = core.build(name, WIDTH, **options).to(dtype)
    for parameter in unit.parameters():  # published initial values hide errors behind zeros and ones
        noise = torch.randn(parameter.shape, dtype=torch.float64)  # the same numbers in every type
        parameter.data.add_(0.1 * noise.to(dtype))
    return unit


def sample(batch: int = 3, time: int = 11, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, time, WIDTH, dtype=dtype, generator=torch.Generator().manual_seed(2))


def close(a: Any, b: Any, tolerance: float = 1e-10) -> None:
    """Equal to `tolerance` of the largest value, for tensors or states."""
    for left, right in zip(tensors(a), tensors(b), strict=True):
        scale = 1 + (right.abs().max().item() if right.numel() and right.is_floating_point() else 0)
        finite = torch.nan_to_num(left, neginf=-1e30), torch.nan_to_num(right, neginf=-1e30)
        assert_close(*finite, rtol=tolerance, atol=tolerance * scale)


def results(unit: Unit, x: Tensor, mode: str, start: State | None) -> tuple[Any, list[Tensor]]:
    """Output, final state, and every gradient of a random projection of both."""
    x = x.clone().requires_grad_()
    start = (
        None
        if start is None
        else map_state(lambda part: part.clone().requires_grad_(part.is_floating_point()), start)
    )
    y, end = unit(x, start, mode)
    generator = torch.Generator().manual_seed(3)
    loss = torch.zeros((), dtype=x.dtype)
    for part in [y, *tensors(end)]:
        if part.requires_grad:
            weight = torch.randn(part.shape, generator=generator, dtype=x.dtype)
            part = part.real + part.imag if part.is_complex() else part
            loss = loss + (torch.where(part.isfinite(), part, 0) * weight).sum()
    sources = [x, *unit.parameters()]
    sources += [part for part in tensors(start) if part.requires_grad] if start is not None else []
    gradients = torch.autograd.grad(loss, sources, allow_unused=True)
    return (y, end), [
        torch.zeros_like(source) if gradient is None else gradient
        for gradient, source in zip(gradients, sources, strict=True)
    ]


@every_unit
def test_states_its_modes(name: str, options: dict[str, Any]) -> None:
    unit = make(name, options)
    assert unit.modes[:2] == ("step", "sequential")
    assert set(unit.modes) <= set(MODES)
    assert unit.paper
    named = dict(unit.named_parameters())
    assert set(unit.no_decay) | set(unit.slow) <= set(named)


@every_unit
@pytest.mark.parametrize("time", [1, 11, 37])
def test_all_modes_agree_on_outputs_states_and_gradients(
    name: str, options: dict[str, Any], time: int
) -> None:
    unit = make(name, options)
    x = sample(time=time)
    start = detach(unit(sample(time=4).flip(0))[1])
    for begin in (None, start):
        ours, gradients = results(unit, x, "step", begin)
        for mode in unit.modes[1:]:
            other, others = results(unit, x, mode, begin)
            close(other, ours, 1e-9)
            for a, b in zip(others, gradients, strict=True):
                close(a, b, 1e-8)


@every_unit
def test_modes_agree_in_float32(name: str, options: dict[str, Any]) -> None:
    unit = make(name, options, torch.float32)
    x = sample(batch=2, time=150, dtype=torch.float32)
    with torch.no_grad():
        expected = make(name, options)(x.double(), None, "step")[0].float()
        for mode in unit.modes:
            close(unit(x, None, mode)[0], expected, 1e-4 if mode == "convolution" else 3e-5)


@every_unit
def test_a_sequence_can_be_cut_anywhere(name: str, options: dict[str, Any]) -> None:
    unit, x = make(name, options), sample()
    whole, end = unit(x)
    for cut in (1, 5, 10):
        head, state = unit(x[:, :cut])
        tail, final = unit(x[:, cut:], state)
        close(torch.cat([head, tail], 1), whole)
        close(final, end)


@every_unit
def test_initial_state_is_what_none_means(name: str, options: dict[str, Any]) -> None:
    unit, x = make(name, options), sample()
    close(unit(x, unit.initial_state(x))[0], unit(x)[0])


@every_unit
def test_lengths_equal_the_unpadded_run(name: str, options: dict[str, Any]) -> None:
    for directions in (1, 2):
        torch.manual_seed(0)
        net = Stack(name, WIDTH, layers=2, directions=directions, **options).double()
        x, lengths = sample(batch=4), torch.tensor([7, 11, 0, 7])
        y, state = net(x, lengths=lengths)
        for row, length in enumerate(lengths.tolist()):
            alone, end = net(x[row : row + 1, :length])
            close(y[row : row + 1, :length], alone)
            assert not y[row, length:].any()
            for part, single in zip(state, end, strict=True):
                close(rows(part, slice(row, row + 1)), single)


@every_unit
def test_masked_tokens_leave_the_state_alone(name: str, options: dict[str, Any]) -> None:
    net, x = Stack(name, WIDTH, **options).double(), sample(batch=2)
    mask = torch.rand(2, 11, generator=torch.Generator().manual_seed(5)) > 0.4
    y, state = net(x, mask=mask)
    for row in range(2):
        alone, end = net(x[row : row + 1, mask[row]])
        close(y[row, mask[row]], alone[0])
        assert not y[row, ~mask[row]].any()
        close(rows(state[0], slice(row, row + 1)), end[0])


@every_unit
def test_a_reset_equals_a_fresh_start(name: str, options: dict[str, Any]) -> None:
    for directions in (1, 2):
        net, x = Stack(name, WIDTH, directions=directions, **options).double(), sample(batch=2)
        given = net(x.flip(1))[1]
        reset = torch.zeros(2, 11, dtype=torch.bool)
        reset[0, [4, 9]] = True
        reset[1, 0] = True
        y, state = net(x, given, reset=reset)
        close(y[0, 4:9], net(x[:1, 4:9])[0][0])
        close(y[1:], net(x[1:], choose_start(net, x[1:], given, directions))[0])
        if directions == 1:
            close(y[0, :4], net(x[:1, :4], tuple(rows(part, slice(0, 1)) for part in given))[0][0])
            close(rows(state[0], slice(0, 1)), net(x[:1, 9:])[1][0])


def choose_start(net: Stack, x: Tensor, given: tuple[Any, ...], directions: int) -> tuple[Any, ...]:
    """A reset at the first token: forward starts fresh, backward keeps what it was given at the end."""
    fresh = net.initial_state(x)
    return (fresh[0], rows(given[1], slice(1, 2))) if directions == 2 else fresh


@every_unit
def test_gradients_are_right(name: str, options: dict[str, Any]) -> None:
    unit, x = make(name, options), sample(batch=2, time=4).requires_grad_()
    for mode in unit.modes[1:]:
        assert torch.autograd.gradcheck(lambda x, mode=mode: unit(x, None, mode)[0], x, atol=1e-6)


@every_unit
def test_batch_rows_do_not_see_each_other(name: str, options: dict[str, Any]) -> None:
    unit, x = make(name, options), sample()
    for mode in unit.modes:
        together = unit(x, None, mode)
        alone = [unit(x[row : row + 1], None, mode) for row in range(3)]
        close(together[0], torch.cat([y for y, _ in alone]))
        close(together[1], join([state for _, state in alone]))


@every_unit
def test_no_tokens_change_nothing(name: str, options: dict[str, Any]) -> None:
    unit, x = make(name, options), sample()
    state = unit(x)[1]
    y, same = unit(x[:, :0], state)
    assert y.shape == (3, 0, unit.output_size)
    close(same, state, 0)
    assert unit(x[:0])[0].shape == (0, 11, unit.output_size)


@every_unit
def test_state_is_a_plain_value(name: str, options: dict[str, Any]) -> None:
    unit, x = make(name, options), sample()
    _, state = unit(x)
    order = torch.tensor([2, 0, 0])
    swapped, _ = unit(x[order], rows(state, order))
    close(swapped, unit(x, state)[0][order])
    fresh = unit.initial_state(x)
    mixed = choose(torch.tensor([True, False, True]), state, fresh)
    close(unit(x, mixed)[0][1], unit(x)[0][1])
    assert not any(part.requires_grad for part in tensors(detach(state)))


@every_unit
def test_a_copy_computes_the_same(name: str, options: dict[str, Any]) -> None:
    unit, x = make(name, options), sample()
    close(copy.deepcopy(unit)(x)[0], unit(x)[0], 0)
    twin = make(name, options)
    twin.load_state_dict(unit.state_dict())
    close(twin(x)[0], unit(x)[0], 0)


@every_unit
def test_strided_input_is_fine(name: str, options: dict[str, Any]) -> None:
    unit, x = make(name, options), sample()
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    for mode in unit.modes:
        close(unit(strided, None, mode)[0], unit(x, None, mode)[0])


@every_unit
def test_wrong_input_is_named(name: str, options: dict[str, Any]) -> None:
    unit = make(name, options)
    with pytest.raises(ValueError, match=rf"expects x of shape \(B, T, {WIDTH}\), got \(2, 10, 4\)"):
        unit(torch.zeros(2, 10, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="floating"):
        unit(torch.zeros(2, 10, WIDTH, dtype=torch.long))
    with pytest.raises(ValueError, match="expects a state of shape"):
        unit(sample(), map_state(lambda part: part[:1], unit.initial_state(sample())))
    with pytest.raises(ValueError, match="computes in modes"):
        unit(sample(), None, "psychic")
    with pytest.raises(ValueError, match="positive"):
        core.build(name, 0, 0)


@every_unit
def test_a_poisoned_row_poisons_only_itself(name: str, options: dict[str, Any]) -> None:
    unit, x = make(name, options), sample()
    x[1, 3] = float("nan")
    for mode in unit.modes:
        y, _ = unit(x, None, mode)
        assert y[[0, 2]].isfinite().all()
        assert y[1, 3].isnan().any()


@every_unit
def test_half_precision_stays_near_single(name: str, options: dict[str, Any]) -> None:
    unit = make(name, options, torch.float32)
    x = sample(dtype=torch.float32)
    expected = unit(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = unit(x)
    assert (y.float() - expected).abs().max() < 0.1 * (1 + expected.abs().max())
    half = copy.deepcopy(unit).bfloat16()
    y, _ = half(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).abs().max() < 0.15 * (1 + expected.abs().max())
