"""The contract itself: modes, cuts, lengths, masks, resets, gradients, messages."""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from core import registry
from core.battery.subject import WIDTH, Subject, close, drawn, refused, results, sample
from core.blocks.stack import Stack
from core.state import choose, detach, join, map_state, rows, tensors
from core.units.contract import MODES


def states_its_modes(of: Subject) -> None:
    unit = of.make()
    assert unit.modes[:2] == ("step", "sequential")
    assert set(unit.modes) <= set(MODES)
    assert unit.paper
    named = dict(unit.named_parameters())
    assert set(unit.no_decay) | set(unit.slow) <= set(named)


def all_modes_agree_on_outputs_states_and_gradients(of: Subject) -> None:
    compare_modes(of, ((1, True), (11, False), (37, True)))


def compare_modes(of: Subject, sizes: Iterable[tuple[int, bool]]) -> None:
    """All modes against steps, for so many tokens, from a state or from none."""
    unit = of.make()
    start = detach(unit(sample(time=4).flip(0))[1])
    for time, started in sizes:
        x, begin = sample(time=time), start if started else None
        ours, gradients = results(unit, x, "step", begin)
        for mode in unit.modes[1:]:
            other, others = results(unit, x, mode, begin)
            close(other, ours, 1e-9)
            for a, b in zip(others, gradients, strict=True):
                close(a, b, 1e-8)


def modes_agree_in_float32(of: Subject) -> None:
    unit = of.make(torch.float32)
    x = sample(batch=2, time=150, dtype=torch.float32)
    with torch.no_grad():
        expected = of.make()(x.double(), None, "sequential")[0].float()
        for mode in unit.modes:
            close(unit(x, None, mode)[0], expected, 1e-4 if mode == "convolution" else 3e-5)


def a_sequence_can_be_cut_anywhere(of: Subject) -> None:
    unit, x = of.make(), sample()
    whole, end = unit(x)
    for cut in (1, 5, 10):
        head, state = unit(x[:, :cut])
        tail, final = unit(x[:, cut:], state)
        close(torch.cat([head, tail], 1), whole)
        close(final, end)


def initial_state_is_what_none_means(of: Subject) -> None:
    unit, x = of.make(), sample()
    close(unit(x, unit.initial_state(x))[0], unit(x)[0])


def lengths_equal_the_unpadded_run(of: Subject) -> None:
    for directions in (1, 2):
        torch.manual_seed(0)
        net = Stack(of.unit, WIDTH, layers=2, directions=directions, **of.options).double()
        x, lengths = sample(batch=4), torch.tensor([7, 11, 0, 7])
        y, state = net(x, lengths=lengths)
        for row, length in enumerate(lengths.tolist()):
            alone, end = net(x[row : row + 1, :length])
            close(y[row : row + 1, :length], alone)
            assert not y[row, length:].any()
            for part, single in zip(state, end, strict=True):
                close(rows(part, slice(row, row + 1)), single)


def masked_tokens_leave_the_state_alone(of: Subject) -> None:
    net, x = Stack(of.unit, WIDTH, **of.options).double(), sample(batch=2)
    mask = drawn((2, 11), torch.Generator("cpu").manual_seed(5), torch.float32) > -0.25
    y, state = net(x, mask=mask)
    for row in range(2):
        alone, end = net(x[row : row + 1, mask[row]])
        close(y[row, mask[row]], alone[0])
        assert not y[row, ~mask[row]].any()
        close(rows(state[0], slice(row, row + 1)), end[0])


def a_reset_equals_a_fresh_start(of: Subject) -> None:
    for directions in (1, 2):
        net, x = Stack(of.unit, WIDTH, directions=directions, **of.options).double(), sample(batch=2)
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


def gradients_are_right(of: Subject) -> None:
    """By finite differences for steps, which every mode is compared with, gradients included."""
    finite_differences(of, ("step",), 3, each=False)


def finite_differences(of: Subject, modes: tuple[str, ...], time: int, *, each: bool = True) -> None:
    """Gradients of x in these modes against finite differences, each number or a random projection of all."""
    unit, x = of.make(), sample(batch=1, time=time).requires_grad_()
    for mode in modes:
        compute = partial(lambda mode, x: unit(x, None, mode)[0], mode)
        assert torch.autograd.gradcheck(compute, x, atol=1e-6, fast_mode=not each)


def batch_rows_do_not_see_each_other(of: Subject) -> None:
    unit, x = of.make(), sample()
    for mode in unit.modes:
        together = unit(x, None, mode)
        alone = [unit(x[row : row + 1], None, mode) for row in range(3)]
        close(together[0], torch.cat([y for y, _ in alone]))
        close(together[1], join([state for _, state in alone]))


def no_tokens_change_nothing(of: Subject) -> None:
    unit, x = of.make(), sample()
    state = unit(x)[1]
    y, same = unit(x[:, :0], state)
    assert y.shape == (3, 0, unit.output_size)
    close(same, state, 0)
    assert unit(x[:0])[0].shape == (0, 11, unit.output_size)


def state_is_a_plain_value(of: Subject) -> None:
    unit, x = of.make(), sample()
    _, state = unit(x)
    order = torch.tensor([2, 0, 0])
    swapped, _ = unit(x[order], rows(state, order))
    close(swapped, unit(x, state)[0][order])
    fresh = unit.initial_state(x)
    mixed = choose(torch.tensor([True, False, True]), state, fresh)
    close(unit(x, mixed)[0][1], unit(x)[0][1])
    assert not any(part.requires_grad for part in tensors(detach(state)))


def a_copy_computes_the_same(of: Subject) -> None:
    unit, x = of.make(), sample()
    close(copy.deepcopy(unit)(x)[0], unit(x)[0], 0)
    twin = of.make()
    twin.load_state_dict(unit.state_dict())
    close(twin(x)[0], unit(x)[0], 0)


def strided_input_is_fine(of: Subject) -> None:
    unit, x = of.make(), sample()
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    for mode in unit.modes:
        close(unit(strided, None, mode)[0], unit(x, None, mode)[0])


def wrong_input_is_named(of: Subject) -> None:
    unit = of.make()
    narrow, whole = torch.zeros(2, 10, 4, dtype=torch.float64), torch.zeros(2, 10, WIDTH, dtype=torch.long)
    refused(lambda: unit(narrow), rf"expects x of shape \(B, T, {WIDTH}\), got \(2, 10, 4\)")
    refused(lambda: unit(whole), "floating")
    few = map_state(lambda part: part[:1], unit.initial_state(sample()))
    refused(lambda: unit(sample(), few), "expects a state of shape")
    refused(lambda: unit(sample(), None, "psychic"), "computes in modes")
    refused(lambda: registry.build(of.unit, 0, 0), "positive")


def steps_check_token_and_state(of: Subject) -> None:
    unit, token = of.make(), sample()[:, 0]
    state = unit.initial_state(token)
    for shape in ((3, 1, WIDTH), (WIDTH,), (3, 1), (3, WIDTH + 1)):
        refused(lambda shape=shape: unit.step(torch.zeros(shape, dtype=token.dtype), state), "got")
    refused(lambda: unit.step(token, map_state(lambda part: part[:1], state)), "expects a state")
    close(unit.step(token, None)[0], unit.step(token, state)[0], 0)


def padding_of_any_kind_changes_nothing(of: Subject) -> None:
    """Outputs and gradients are those of the rows alone, NaN or not, with and without the final state."""
    torch.manual_seed(0)
    net, lengths = (
        Stack(of.unit, WIDTH, layers=2, residual=True, **of.options).double(),
        torch.tensor([4, 9, 1]),
    )
    valid = (torch.arange(9) < lengths[:, None])[..., None]
    x = torch.where(valid, sample(time=9), torch.nan).requires_grad_()
    parts = [x, *net.parameters()]

    def gradients(y: Tensor) -> list[Tensor]:
        found = torch.autograd.grad(y.square().sum(), parts, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parts, strict=True)]

    alone = [net(x[row : row + 1, :length])[0] for row, length in enumerate(lengths.tolist())]
    pads = [torch.nn.functional.pad(y, (0, 0, 0, 9 - y.shape[1])) for y in alone]
    expected = torch.cat(pads)
    wanted = gradients(expected)
    for final in (True, False):
        y, _ = net(x, lengths=lengths, final=final)
        close(y, expected, 1e-9)
        for a, b in zip(gradients(y), wanted, strict=True):
            close(a, b, 1e-8)


def a_batch_of_nothing_trains(of: Subject) -> None:
    unit = of.make()
    for shape in ((0, 5, WIDTH), (2, 0, WIDTH)):
        x = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        y, _ = unit(x)
        found = torch.autograd.grad(y.sum(), [x, *unit.parameters()])
        assert not any(part.any() for part in found), "the gradient of nothing is not zero"


def a_poisoned_row_poisons_only_itself(of: Subject) -> None:
    unit, x = of.make(), sample()
    x[1, 3] = float("nan")
    for mode in unit.modes:
        y, _ = unit(x, None, mode)
        assert y[[0, 2]].isfinite().all()
        assert y[1, 3].isnan().any()


def half_precision_stays_near_single(of: Subject) -> None:
    unit = of.make(torch.float32)
    x = sample(dtype=torch.float32)
    expected = unit(x)[0]
    with torch.autocast(x.device.type, torch.bfloat16):
        y, _ = unit(x)
    assert (y.float() - expected).abs().max() < 0.1 * (1 + expected.abs().max())
    half = copy.deepcopy(unit).bfloat16()
    y, _ = half(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).abs().max() < 0.15 * (1 + expected.abs().max())


CONTRACT: tuple[Callable[[Subject], None], ...] = (
    states_its_modes,
    all_modes_agree_on_outputs_states_and_gradients,
    modes_agree_in_float32,
    a_sequence_can_be_cut_anywhere,
    initial_state_is_what_none_means,
    lengths_equal_the_unpadded_run,
    masked_tokens_leave_the_state_alone,
    a_reset_equals_a_fresh_start,
    gradients_are_right,
    batch_rows_do_not_see_each_other,
    no_tokens_change_nothing,
    state_is_a_plain_value,
    a_copy_computes_the_same,
    strided_input_is_fine,
    wrong_input_is_named,
    steps_check_token_and_state,
    padding_of_any_kind_changes_nothing,
    a_batch_of_nothing_trains,
    a_poisoned_row_poisons_only_itself,
    half_precision_stays_near_single,
)
"""In the order in which it is worth knowing that one is broken."""
