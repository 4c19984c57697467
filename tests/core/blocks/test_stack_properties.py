"""Any shapes, masks, resets and cut points: the container equals feeding the tokens one by one."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import core
from core.blocks.stack import Stack
from core.state import rows, tensors

UNITS = ("gru", "lstm", "min_gru", "mamba", "rg_lru", "gla", "gated_delta_net", "rwkv7")
WIDTH = 4
quick = settings(deadline=None, derandomize=True, max_examples=40)


def one_by_one(net: Stack, x: Tensor, mask: Tensor, reset: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The definition for one row (1, T, I): a reset forgets, a masked token is not there."""
    outputs, pending = [], False
    for t in range(x.shape[1]):
        pending |= bool(reset[0, t])
        if not mask[0, t]:
            outputs.append(x.new_zeros(1, net.output_size))
            continue
        if pending:
            state, pending = net.initial_state(x[:, t]), False
        y, state = net.step(x[:, t], state)
        outputs.append(y)
    return torch.stack(outputs, 1), state


@quick
@given(st.sampled_from(UNITS), st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**16))
def test_masks_and_resets_equal_feeding_tokens_one_by_one(
    name: str, batch: int, time: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(0)
    net = core.stack(name, WIDTH, layers=2).double()
    x = torch.randn(batch, time, WIDTH, dtype=torch.float64, generator=generator)
    mask = torch.rand(batch, time, generator=generator) > 0.3
    reset = torch.rand(batch, time, generator=generator) > 0.8
    given_state = net(torch.randn(batch, 2, WIDTH, dtype=torch.float64, generator=generator))[1]
    y, end = net(x, given_state, mask=mask, reset=reset)
    for row in range(batch):
        piece = slice(row, row + 1)
        begin = tuple(rows(part, piece) for part in given_state)
        expected, last = one_by_one(net, x[piece], mask[piece], reset[piece], begin)
        torch.testing.assert_close(y[piece], expected, atol=1e-9, rtol=1e-9)
        if mask[row].any():
            for a, b in zip(tensors(tuple(rows(part, piece) for part in end)), tensors(last), strict=True):
                torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


@quick
@given(
    st.sampled_from(UNITS),
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
    st.integers(0, 2**16),
    st.sampled_from([torch.float64, torch.float32]),
)
def test_a_sequence_in_any_pieces_is_the_whole(
    name: str, pieces: list[int], seed: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(0)
    net = core.stack(name, WIDTH, layers=2).to(dtype)
    x = torch.randn(2, sum(pieces), WIDTH, dtype=torch.float64, generator=generator).to(dtype)
    whole, end = net(x)
    state, outputs = net.initial_state(x), []
    for piece in x.split(pieces, 1):
        y, state = net(piece, state)
        outputs.append(y)
    tolerance = 1e-9 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(torch.cat(outputs, 1), whole, atol=tolerance, rtol=tolerance)
    for a, b in zip(tensors(state), tensors(end), strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def test_a_million_tokens_in_pieces_keep_a_state_of_one_size() -> None:
    torch.manual_seed(0)
    unit = core.build("min_gru", WIDTH).eval()
    generator = torch.Generator().manual_seed(1)
    piece, total = 50_000, 1_000_000
    state, count, checked = None, 0, 0
    with torch.no_grad():
        while count < total:
            x = torch.randn(1, piece, WIDTH, generator=generator)
            start = state
            y, state = unit(x, state)
            assert sum(part.numel() for part in tensors(state)) == WIDTH
            if count in (0, total - piece):  # the state handed over is the true one: check by stepping on
                step_state = unit.initial_state(x) if start is None else start
                for t in range(50):
                    out, step_state = unit.step(x[:, t], step_state)
                    torch.testing.assert_close(out, y[:, t], atol=1e-5, rtol=1e-5)
                checked += 1
            count += piece
    assert checked == 2
    assert y.isfinite().all()
