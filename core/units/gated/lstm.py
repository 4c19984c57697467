"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

    i_t = sigmoid(W_i x_t + U_i h_{t-1} + p_i * c_{t-1} + b_i)
    f_t = sigmoid(W_f x_t + U_f h_{t-1} + p_f * c_{t-1} + b_f)
    g_t = tanh(W_g x_t + U_g h_{t-1} + b_g)
    c_t = f_t * c_{t-1} + i_t * g_t
    o_t = sigmoid(W_o x_t + U_o h_{t-1} + p_o * c_t + b_o)
    h_t = o_t * tanh(c_t),   with a projection h_t = W_r (o_t * tanh(c_t))

The peepholes p are there if asked for. Each variant of the Odyssey (Greff et al. 2015, arXiv 1503.04069)
changes one thing of the LSTM with peepholes:

    NIG  input_gate=False   i = 1            NOAF  squash_output=False   h = o * c
    NFG  forget_gate=False  f = 1            CIFG  coupled=True          f = 1 - i
    NOG  output_gate=False  o = 1            NP    peephole=False
    NIAF squash_input=False g linear         FGR   gate_recurrence=True  each gate also sees i, f, o of t-1

The first LSTM of 1997 is forget_gate=False without peepholes. Weights are stacked (i, f, g, o), without the
gates that a variant lacks, and named as in `torch.nn.LSTM`; peepholes are stacked (i, f, o).
Projection and FGR run on the plain loop.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.gated_loop import Cell, Masks, seen, written
from core.parts.memory import Tokens, keep_logit, needed, time_constants
from core.units.gated.gated_unit import GatedUnit, added, maybe, uniform

GATES = ("i", "f", "g", "o")


class LSTM(GatedUnit):
    """x (B, T, I), state h (B, P or H), c (B, H) -> y (B, T, P or H), state. FGR adds its gates (B, 3 H).

    Args:
        projection: P, width of the output after a last product; None is H without one.
        peephole: do the gates see the cell.
        input_gate, forget_gate, output_gate: is the gate there; a missing one is 1.
        coupled: f = 1 - i.
        squash_input, squash_output: tanh of the candidate, and of the cell before the output.
        gate_recurrence: do the gates see the gates of the token before (full gate recurrence).
        bias: whether both biases are there.
    """

    paper = "Hochreiter & Schmidhuber 1997; Gers et al. 2000; variants: arXiv 1503.04069"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        projection: int | None = None,
        peephole: bool = False,
        input_gate: bool = True,
        forget_gate: bool = True,
        output_gate: bool = True,
        coupled: bool = False,
        squash_input: bool = True,
        squash_output: bool = True,
        gate_recurrence: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__(input_size, hidden_size)
        if coupled and not (input_gate and forget_gate):
            raise ConfigError("coupled gates of an LSTM are f = 1 - i, so it needs both of them")
        if gate_recurrence and (coupled or not (input_gate and forget_gate and output_gate)):
            raise ConfigError("full gate recurrence of an LSTM needs its three gates")
        if projection is not None and not 0 < projection < hidden_size:
            raise ConfigError(f"projection of an LSTM must be in 1..{hidden_size - 1}, got {projection}")
        present = {"i": input_gate, "f": forget_gate and not coupled, "g": True, "o": output_gate}
        self.gates = tuple(gate for gate in GATES if present[gate])
        self.projection, self.coupled = projection, coupled
        self.squash_input, self.squash_output = squash_input, squash_output
        H, rows, peepholes = hidden_size, len(self.gates) * hidden_size, (len(self.gates) - 1) * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, self.output_size))
        self.bias_ih, self.bias_hh = maybe(bias, rows), maybe(bias, rows)
        self.weight_ph = maybe(peephole and peepholes, peepholes)
        self.weight_hr = maybe(projection, projection or 0, H)
        self.weight_gg = maybe(gate_recurrence, 3 * H, 3 * H)
        uniform(self, H**-0.5)
        compiled = projection is None and not gate_recurrence
        self.cell = Cell(
            partial(lstm_step, self.gates, coupled, squash_input, squash_output),
            "lstm" if compiled else None,
            (*map(self.place, GATES), coupled, squash_input, squash_output),
        )

    def place(self, gate: str) -> int:
        """Where a gate lies in the stacked weights, -1 if the variant lacks it."""
        return self.gates.index(gate) if gate in self.gates else -1

    @property
    def output_size(self) -> int:
        return self.projection or self.hidden_size

    @property
    def library(self) -> str | None:
        usual = self.cell.kernel is not None and self.cell.options == (0, 1, 2, 3, False, True, True)
        usual = usual and self.weight_ph is None and not self.noisy
        return "lstm" if usual and self.bias_ih is not None else None

    def initial_state(self, x: Tensor) -> tuple[Tensor, ...]:
        h, c = x.new_zeros(x.shape[0], self.output_size), x.new_zeros(x.shape[0], self.hidden_size)
        return (h, c) if self.weight_gg is None else (h, c, x.new_zeros(x.shape[0], 3 * self.hidden_size))

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        bias, other = needed("an LSTM", self.bias_ih, self.bias_hh)
        H = self.hidden_size
        keep = keep_logit(time_constants("an LSTM", H, tokens))
        if not self.coupled and "f" not in self.gates:
            raise ConfigError("an LSTM without a forget gate remembers everything, so it takes no remember")
        for gate, value in (("f", keep), ("i", -keep)):
            if gate in self.gates:
                rows = slice(self.place(gate) * H, (self.place(gate) + 1) * H)
                bias[rows], other[rows] = value.to(bias.dtype), 0

    def input_weights(self) -> tuple[Tensor, Tensor | None]:
        return self.weight_ih, added(self.bias_ih, self.bias_hh)

    def weights(self) -> tuple[Tensor | None, ...]:
        return self.weight_hh, self.weight_ph, self.weight_hr, self.weight_gg


def lstm_step(
    names: tuple[str, ...],
    coupled: bool,
    squash_input: bool,
    squash_output: bool,
    gates: Tensor,
    state: tuple[Tensor, ...],
    weights: tuple[Tensor | None, ...],
    masks: Masks | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One step on projected input: gates (B, G) stacked as in `names`."""
    (h, c), before = state[:2], state[2:]
    weight_hh, weight_ph, weight_hr, weight_gg = weights
    gates = gates + F.linear(seen(masks, h), weight_hh)  # pyright: ignore[reportArgumentType]
    parts = dict(zip(names, gates.chunk(len(names), -1), strict=True))
    if weight_gg is not None:
        looked = F.linear(before[0], weight_gg).chunk(3, -1)
        parts.update({name: parts[name] + part for name, part in zip("ifo", looked, strict=True)})
    peep = {}
    if weight_ph is not None:
        peep = dict(
            zip([name for name in names if name != "g"], weight_ph.chunk(len(names) - 1), strict=True)
        )

    def gate(name: str, memory: Tensor) -> Tensor:
        if name not in parts:
            return torch.ones_like(memory)
        return (parts[name] + peep[name] * memory if name in peep else parts[name]).sigmoid()

    i = gate("i", c)
    f = 1 - i if coupled else gate("f", c)
    g = parts["g"].tanh() if squash_input else parts["g"]
    c = f * c + i * written(masks, g)
    o = gate("o", c)
    h = o * (c.tanh() if squash_output else c)
    if weight_hr is not None:
        h = F.linear(h, weight_hr)
    return h, (h, c) if weight_gg is None else (h, c, torch.cat([i, f, o], -1))
