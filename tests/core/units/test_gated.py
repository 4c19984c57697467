"""Limit cases of the other gated cells."""

import torch
from torch.testing import assert_close

import core


def test_an_indrnn_channel_sees_only_itself() -> None:
    unit, x, h = core.build("indrnn", 3, 4), torch.randn(1, 6, 3), torch.randn(1, 4)
    other = h.clone()
    other[0, 2] += 1
    changed = (unit(x, h)[0] != unit(x, other)[0]).any(1)[0]
    assert not changed[[0, 1, 3]].any()


def test_an_elman_network_with_diagonal_recurrence_is_an_indrnn() -> None:
    diagonal, full = core.build("indrnn", 3, 4), core.build("rnn", 3, 4, activation="relu", bias=False)
    full.load_state_dict({"weight_ih": diagonal.weight_ih, "weight_hh": diagonal.weight_hh.diag()})
    diagonal.bias.data.zero_()
    x = torch.randn(2, 5, 3)
    assert_close(diagonal(x)[0], full(x)[0])


def test_an_mgu_is_a_gru_whose_gates_are_tied() -> None:
    mgu = core.build("mgu", 3, 4)
    gru = core.build("gru", 3, 4, reset="before", update="write")
    double = lambda stacked: torch.cat([stacked[:4], stacked])  # noqa: E731
    gru.load_state_dict(
        {
            "weight_ih": double(mgu.weight_ih),
            "weight_hh": double(mgu.weight_hh),
            "bias_ih": double(mgu.bias),
            "bias_hh": torch.zeros(12),
        }
    )
    x = torch.randn(2, 5, 3)
    assert_close(mgu(x)[0], gru(x)[0])


def test_a_lem_with_a_tiny_time_step_hardly_moves() -> None:
    unit, x = core.build("lem", 3, 4, dt=1e-6), torch.randn(2, 5, 3)
    start = (torch.randn(2, 4), torch.randn(2, 4))
    _, (y, z) = unit(x, start)
    assert_close(y, start[0], rtol=0, atol=1e-4)
    assert_close(z, start[1], rtol=0, atol=1e-4)


def test_heads_of_an_slstm_do_not_see_each_other() -> None:
    unit = core.build("slstm", 3, 6, heads=2)
    unit.weight_hh.data.normal_()
    x = torch.randn(1, 5, 3)
    state = unit(x)[1]
    other = (state[0] + torch.tensor([1.0, 1, 1, 0, 0, 0]), *state[1:])
    assert_close(unit(x, state)[0][..., 3:], unit(x, other)[0][..., 3:], rtol=0, atol=0)
    assert not torch.allclose(unit(x, state)[0][..., :3], unit(x, other)[0][..., :3])


def test_rows_of_an_slstm_that_start_later_equal_a_fresh_start() -> None:
    unit, x = core.build("slstm", 3, 6), torch.randn(2, 5, 3)
    state = unit(x)[1]
    fresh = unit.initial_state(x)
    mixed = tuple(torch.stack([a[0], b[1]]) for a, b in zip(state, fresh, strict=True))
    assert_close(unit(x, mixed)[0][1], unit(x)[0][1])


def test_an_slstm_survives_enormous_input_gates() -> None:
    unit, x = core.build("slstm", 3, 6), 1e4 * torch.randn(2, 50, 3)
    y, state = unit(x)
    assert y.isfinite().all()
    assert all(part.isfinite().all() for part in state)
