"""Zoneout and dropout of the recurrence of gated units."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

import core
from core.errors import ConfigError
from core.state import tensors

ZONED = ["rnn", "lstm", "gru", "mgu", "indrnn", "lem", "para_gru", "para_lstm"]


@pytest.mark.parametrize("name", ZONED)
def test_zoneout_expects_its_mean_in_evaluation(name: str) -> None:
    unit = core.build(name, 5, zoneout=0.3).double().eval()
    plain = core.build(name, 5).double()
    plain.load_state_dict(unit.state_dict())
    x = torch.randn(2, 7, 5, dtype=torch.float64)
    state = plain.initial_state(x)
    for time, token in enumerate(x.unbind(1)):
        _, after = plain.step(token, state)
        mixed = [0.3 * a + 0.7 * b for a, b in zip(tensors(state), tensors(after), strict=True)]
        state = mixed[0] if len(mixed) == 1 else tuple(mixed)
        assert_close(unit(x)[0][:, time], mixed[0])


@pytest.mark.parametrize("name", ZONED)
def test_in_training_a_channel_is_old_or_new_and_modes_draw_the_same(name: str) -> None:
    options: dict[str, Any] = (
        {"activation": "tanh"} if name == "indrnn" else {}
    )  # zeros of relu would repeat by themselves
    unit = core.build(name, 5, zoneout=0.5, **options).double()
    x = torch.randn(3, 6, 5, dtype=torch.float64)
    found = []
    for mode in ("step", "sequential"):
        torch.manual_seed(3)
        found.append(unit(x, None, mode)[0])
    assert_close(*found)
    assert 0.2 < (found[0][:, 1:] == found[0][:, :-1]).double().mean() < 0.8
    lengths = torch.tensor([6, 2, 4])
    y, _ = core.stack(name, 5, zoneout=0.5).double()(x, lengths=lengths)
    assert not y[1, 2:].any()


def test_own_rates_for_h_and_c() -> None:
    unit = core.build("lstm", 4, zoneout=(0.0, 0.9))
    _, (h, c) = unit(torch.randn(1, 3, 4))
    assert unit.noise.zoneout == (0.0, 0.9)
    assert (c == 0).any()
    assert (h != 0).all() or (c == 0).any()


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "mgu", "lem", "slstm"])
def test_weights_are_dropped_once_a_call_and_in_training_only(name: str) -> None:
    unit, plain = core.build(name, 6, weight_drop=0.5), core.build(name, 6)
    with torch.no_grad():
        for part in unit.parameters():
            part.add_(0.3 * torch.randn_like(part))
    plain.load_state_dict(unit.state_dict())
    x = torch.randn(2, 5, 6)
    assert not torch.equal(unit(x)[0], plain(x)[0])
    found = []
    for mode in ("step", "sequential"):
        torch.manual_seed(5)
        found.append(unit(x, None, mode)[0])
    assert_close(*found)
    unit.eval()
    assert torch.equal(unit(x)[0], plain(x)[0])


DROPPED = ["rnn", "lstm", "gru", "mgu", "indrnn", "lem", "slstm", "para_gru", "para_lstm"]


@pytest.mark.parametrize("name", DROPPED)
@pytest.mark.parametrize("kind", ["variational_dropout", "candidate_dropout"])
def test_dropout_of_the_recurrence_is_there_in_training_only(name: str, kind: str) -> None:
    if kind == "candidate_dropout" and name in ("rnn", "indrnn"):
        with pytest.raises(ConfigError, match="no candidate"):
            core.build(name, 6, candidate_dropout=0.5)
        return
    options: dict[str, Any] = {kind: 0.5}
    unit, plain = core.build(name, 6, **options), core.build(name, 6)
    with torch.no_grad():
        for part in unit.parameters():
            part.add_(0.3 * torch.randn_like(part))
    plain.load_state_dict(unit.state_dict())
    x = torch.randn(3, 5, 6)
    start = plain(x)[1]
    found = []
    for mode in ("step", "sequential"):
        torch.manual_seed(5)
        found.append(unit(x, start, mode))
    assert_close(found[0][0], found[1][0])
    assert not torch.equal(found[0][0], plain(x, start)[0])
    x.requires_grad_()
    assert torch.autograd.grad(unit(x, start)[0].sum(), x)[0].isfinite().all()
    unit.eval()
    assert torch.equal(unit(x, start)[0], plain(x, start)[0])
    with torch.no_grad():
        assert torch.equal(unit.step(x[:, 0], start)[0], plain.step(x[:, 0], start)[0])


def test_the_variational_mask_is_one_for_a_row_and_the_gates() -> None:
    unit = core.build("gru", 4, variational_dropout=0.5).double()
    x, h = torch.zeros(2, 6, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    torch.manual_seed(3)
    y, _ = unit(x, h)
    torch.manual_seed(3)
    mask = (torch.rand_like(h) >= 0.5) * 2.0
    wanted = []
    for _ in range(6):
        r, z = (
            (unit.bias_ih[:8] + (mask * h) @ unit.weight_hh[:8].T + unit.bias_hh[:8]).sigmoid().chunk(2, -1)
        )
        n = (unit.bias_ih[8:] + r * ((mask * h) @ unit.weight_hh[8:].T + unit.bias_hh[8:])).tanh()
        h = (1 - z) * n + z * h
        wanted.append(h)
    assert_close(y, torch.stack(wanted, 1))


def test_the_candidate_is_dropped_and_never_the_memory() -> None:
    unit = core.build("lstm", 5, candidate_dropout=0.5).double()
    x, h = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    c = torch.randn(4, 5, dtype=torch.float64)
    gates = unit.bias_ih + unit.bias_hh + x @ unit.weight_ih.T + h @ unit.weight_hh.T
    i, f, g, _ = gates.chunk(4, -1)
    _, (_, after) = unit.step(x, (h, c))
    added = (after - f.sigmoid() * c) / (i.sigmoid() * g.tanh())
    assert_close(added, added.round())
    assert set(added.round().flatten().tolist()) == {0.0, 2.0}


def test_chance_comes_from_the_given_generator() -> None:
    x = torch.randn(2, 5, 6)
    every: tuple[dict[str, Any], ...] = (
        {"zoneout": 0.3},
        {"weight_drop": 0.4},
        {"variational_dropout": 0.3, "candidate_dropout": 0.2},
    )
    for options in every:
        source = torch.Generator()
        net = core.stack("gru", 6, layers=2, generator=source, **options)
        found = []
        for _ in range(2):
            source.manual_seed(7)
            before = torch.random.get_rng_state()
            found.append(net(x)[0])
            assert torch.equal(before, torch.random.get_rng_state())
        assert torch.equal(*found)
        assert not torch.equal(net(x)[0], found[0])


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("gla", {"zoneout": 0.1}, "no gated unit"),
        ("slstm", {"zoneout": 0.1}, "no more than h and c"),
        ("indrnn", {"weight_drop": 0.1}, "no recurrent matrices"),
        ("gru", {"zoneout": 1.0}, "0 <= p < 1"),
        ("lstm", {"zoneout": (0.1, 0.2, 0.3)}, "each of 2 states"),
        ("gru", {"weight_drop": -0.5}, "0 <= p < 1"),
        ("gru", {"variational_dropout": 1.5}, "variational_dropout 1.5"),
        ("mamba", {"candidate_dropout": 0.1}, "no gated unit"),
        ("gru", {"zoneout": 0.1, "generator": 3}, "torch.Generator"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, options: dict, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        core.build(name, 8, **options)
