"""What an LSTM and each of its variants is."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import core
from core.errors import ConfigError
from core.units.gated.lstm import LSTM


def random_lstm(**options: Any) -> LSTM:
    torch.manual_seed(0)
    return core.build("lstm", 3, 4, **options).double()


def by_hand(unit: LSTM, x: Tensor, **changed: Any) -> Tensor:
    """The equations of the docstring for one row, with gates set by the caller."""
    h, c = torch.zeros(4).double(), torch.zeros(4).double()
    p = dict(zip("ifo", unit.weight_ph.chunk(3), strict=True)) if unit.weight_ph is not None else None
    outputs = []
    for token in x:
        a = unit.weight_ih @ token + unit.bias_ih + unit.weight_hh @ h + unit.bias_hh
        a = dict(zip(unit.gates, a.chunk(len(unit.gates)), strict=True))
        peep = {gate: p[gate] * c if p is not None else 0 for gate in "if"}
        i = changed["i"] if "i" in changed else (a["i"] + peep["i"]).sigmoid()
        f = changed["f"](i) if "f" in changed else (a["f"] + peep["f"]).sigmoid()
        c = f * c + i * changed.get("squash_input", torch.tanh)(a["g"])
        o = changed["o"] if "o" in changed else (a["o"] + (p["o"] * c if p is not None else 0)).sigmoid()
        h = o * changed.get("squash_output", torch.tanh)(c)
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({}, {}),
        ({"peephole": True}, {}),
        ({"input_gate": False}, {"i": 1}),
        ({"forget_gate": False}, {"f": lambda i: 1}),
        ({"output_gate": False}, {"o": 1}),
        ({"squash_input": False, "peephole": True}, {"squash_input": lambda g: g}),
        ({"squash_output": False, "peephole": True}, {"squash_output": lambda c: c}),
        ({"coupled": True}, {"f": lambda i: 1 - i}),
    ],
    ids=["NP", "vanilla", "NIG", "NFG", "NOG", "NIAF", "NOAF", "CIFG"],
)
def test_a_variant_changes_one_thing(options: dict[str, Any], changed: dict[str, Any]) -> None:
    unit, x = random_lstm(**options), torch.randn(6, 3).double()
    assert_close(unit(x[None])[0][0], by_hand(unit, x, **changed))


def test_gate_recurrence_without_its_weights_is_the_lstm_with_peepholes() -> None:
    recurrent, plain = random_lstm(gate_recurrence=True, peephole=True), random_lstm(peephole=True)
    recurrent.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 5, 3).double()
    assert not torch.allclose(recurrent(x)[0], plain(x)[0])
    recurrent.weight_gg.data.zero_()
    assert_close(recurrent(x)[0], plain(x)[0])


def test_a_variant_has_no_weights_for_the_gate_it_lacks() -> None:
    assert random_lstm(forget_gate=False).weight_hh.shape == (12, 4)
    assert random_lstm(coupled=True, peephole=True).weight_ph.shape == (8,)
    assert random_lstm(projection=2).weight_hh.shape == (16, 2)


@pytest.mark.parametrize(
    "options",
    [{"coupled": True, "input_gate": False}, {"gate_recurrence": True, "coupled": True}, {"projection": 4}],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        core.build("lstm", 4, **options)
