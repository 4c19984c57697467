"""Memories of given length at the start: what `core.build(..., remember=T)` sets, seen from outside."""

import pytest
import torch
from torch import Tensor

import core
from core.errors import ConfigError
from core.state import tensors
from core.units.contract import Unit

NO_DECAY = {"rnn", "linear_attention", "aaren", "delta_net", "fsmn", "ttt"}
SCALED = {"rwkv4", "indrnn", "mlstm", "slstm", "s4"}
KEPT = {"A_log", "A_imag", "log_A_real", "decay", "w0", "time_decay", "transition_bias", "conv_weight"}
"""Parameters of several axes that hold a decay; all other matrices are set to zero below."""
PLACE = {
    "lstm": 1,
    "lem": 1,
    "para_lstm": 1,
    "slstm": 2,
    "qrnn": 1,
    "mamba": 1,
    "rwkv4": 2,
    "rwkv6": 1,
    "rwkv7": 1,
    "mamba2": 1,
    "gated_delta_net": 1,
    "delta_product": 1,
    "plstm": 1,
}
"""Which tensor of the state is the memory."""


def kept_share(unit: Unit, place: int) -> Tensor:
    """How much of a difference in the memory is left after a token of zero input."""
    x = torch.zeros(1, unit.input_size, dtype=torch.float64)
    start = list(tensors(unit.step(x, unit.initial_state(x))[1]))  # the first token may be special

    def after(memory: Tensor) -> Tensor:
        parts = [*start[:place], memory, *start[place + 1 :]]
        return list(tensors(unit.step(x, parts[0] if len(parts) == 1 else tuple(parts))[1]))[place]

    one = torch.ones_like(start[place])
    return (after(start[place] + 2e-3 * one) - after(start[place] + 1e-3 * one)) / 1e-3


@pytest.mark.parametrize("name", [name for name in core.unit_names() if name not in NO_DECAY | SCALED])
def test_channels_keep_what_their_memory_says(name: str) -> None:
    torch.manual_seed(0)
    unit = core.build(name, 8, 128, remember=64).double()
    with torch.no_grad():
        for key, part in unit.named_parameters():
            if part.ndim > 1 and key != "bias" and not KEPT & set(key.split(".")):
                part.zero_()
        share = kept_share(unit, PLACE.get(name, 0))
    if name in ("lru", "s4d", "s5"):  # pairs (Re, Im) turn: their length counts
        share = share.square().sum(-1).div(2).sqrt()
    if name == "mamba":  # the slowest of a channel's states
        share = share.max(-1).values
    tau = 1 / (1 - share)
    # where the decay is exp(-1/tau) a memory of 16 tokens is one of 16.5
    assert tau.min().item() == pytest.approx(16.0, rel=0.04)
    assert tau.max().item() == pytest.approx(256.0, rel=0.04)


def ends(values: Tensor) -> Tensor:
    """The least and the largest."""
    return torch.stack([values.min(), values.max()]).detach()


def test_published_spreads_are_scaled() -> None:
    """Units whose state is normalised, or moves by more than its decay."""
    tau = torch.tensor([16.0, 256.0])
    decay = (-core.build("rwkv4", 8, remember=64).time_decay.exp()).exp()
    assert torch.allclose(ends(decay), 1 - 1 / tau, rtol=1e-4)
    assert torch.allclose(ends(core.build("indrnn", 8, remember=64).weight_hh), 1 - 1 / tau, rtol=1e-4)
    gates = core.build("mlstm", 128, remember=64).gates.bias[2:]
    assert torch.allclose(ends((15 * (gates / 15).tanh()).sigmoid()), 1 - 1 / tau, rtol=1e-4)
    forget = core.build("slstm", 8, remember=64).bias[8:16]
    assert torch.allclose(ends(forget.sigmoid()), 1 - 1 / tau, rtol=1e-4)
    steps = core.build("s4", 8, remember=64).log_dt.exp()
    assert torch.allclose(ends(steps), 2 / tau.flip(0), rtol=1e-4)


@pytest.mark.parametrize("name", sorted(NO_DECAY))
def test_units_without_a_decay_refuse_in_one_sentence(name: str) -> None:
    with pytest.raises(ConfigError, match="has no decay that could be set"):
        core.build(name, 8, remember=64)


@pytest.mark.parametrize("tokens", [0, -3, 2, (5, 3), (0.5, 9), float("nan"), "long", (1, 2, 3)])
def test_impossible_memories_are_refused(tokens: object) -> None:
    with pytest.raises(ConfigError, match="remember"):
        core.build("gru", 8, remember=tokens)


def test_without_biases_there_is_nowhere_to_put_it() -> None:
    with pytest.raises(ConfigError, match="not bias=False"):
        core.build("lstm", 8, bias=False, remember=64)


def test_a_pair_gives_the_ends_and_a_stack_hands_it_on() -> None:
    net = core.stack("gru", 4, layers=2, remember=(10, 1000))
    for unit in net.units:
        keep = (unit.bias_ih + unit.bias_hh)[4:8].sigmoid()
        assert torch.allclose(1 / (1 - ends(keep)), torch.tensor([10.0, 1000.0]), rtol=1e-3)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "mgu", "lem", "slstm"])
def test_recurrent_matrices_begin_orthogonal_gate_by_gate(name: str) -> None:
    unit = core.build(name, 4, 6, recurrent="orthogonal")
    matrix = unit.weight_hh if unit.weight_hh.ndim == 2 else unit.weight_hh[0]
    for gate in matrix.split(6):
        assert torch.allclose(gate @ gate.T, torch.eye(6), atol=1e-5)


def test_a_diagonal_recurrence_takes_no_matrix() -> None:
    for name in ("indrnn", "para_gru", "min_gru"):
        with pytest.raises(ConfigError, match="takes no recurrent start"):
            core.build(name, 8, recurrent="orthogonal")
    with pytest.raises(ConfigError, match="orthogonal, identity"):
        core.build("gru", 8, recurrent="sparse")
