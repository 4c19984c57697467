"""sLSTM, the scalar memory of xLSTM (Beck et al. 2024, arXiv 2405.04517): exponential gates, heads.

    (i~, f~, z~, o~) = W x_t + b + R y_{t-1}                R block diagonal: each head sees itself
    m_t = max(log sigmoid(f~) + m_{t-1}, i~), or i~ where n_{t-1} = 0
    i_t = min(exp(i~ - m_t), 1)
    f_t = min(exp(log sigmoid(f~) + m_{t-1} - m_t), 1)
    c_t = f_t * c_{t-1} + i_t * tanh(z~)
    n_t = f_t * n_{t-1} + i_t
    y_t = sigmoid(o~) * c_t / n_t

m only keeps the exponentials in range. Where nothing was seen yet (n = 0) it starts at i~: per element,
so that rows of a batch which begin at different times do not see each other.

`pointwise="lstm"` puts the gates of the LSTM (order i, f, z, o, states y and c) on the same heads; it runs on
the plain loop. Weights: `weight_ih` and `bias` stacked (i, f, z, o) over all heads, `weight_hh`
(heads, 4 H / heads, H / heads) stacked so within each head. R starts at zero and the forget bias runs
from 5 to -7 over the channels of a head, the faster the deeper (`depth` 0..1), as in the authors' code.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.gated_loop import Cell, Masks, States, Weights, seen, written
from core.parts.heads import default_heads
from core.parts.memory import Tokens, keep_logit, time_constants
from core.units.gated.gated_unit import GatedUnit


class SLSTM(GatedUnit):
    """x (B, T, I), state y, c, n, m (B, H) each -> y (B, T, H), state.

    Args:
        heads: that divide the width; None is as many of 64 channels or more as divide it.
        pointwise: "slstm", or "lstm" for the gates of an LSTM on the same heads.
        depth: 0 for the first layer of a network to 1 for its last; deeper layers forget faster.
    """

    paper = "Beck et al. 2024, arXiv 2405.04517"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int | None = None,
        pointwise: str = "slstm",
        depth: float = 0.0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        heads = default_heads(hidden_size) if heads is None else heads
        if heads < 1 or hidden_size % heads:
            raise ConfigError(f"heads of an sLSTM must divide the hidden width {hidden_size}, got {heads}")
        if pointwise not in ("slstm", "lstm"):
            raise ConfigError(f"pointwise of an sLSTM is slstm or lstm, got {pointwise!r}")
        if not 0 <= depth <= 1:
            raise ConfigError(f"depth of an sLSTM, its place in the network, must be in 0..1, got {depth}")
        own = hidden_size // heads
        self.heads = heads
        self.states = 4 if pointwise == "slstm" else 2
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.zeros(heads, 4 * own, own))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        nn.init.uniform_(self.weight_ih, -(input_size**-0.5), input_size**-0.5)
        channel = torch.arange(own) / max(1, own - 1)
        forget = 5 - 12 * channel ** (0.3 + 1.3 * depth)
        self.bias.data[hidden_size : 2 * hidden_size] = forget.repeat(heads)
        if pointwise == "slstm":
            self.cell = Cell(slstm_step, "slstm")
        else:
            self.cell = Cell(heads_lstm_step)

    @torch.no_grad()
    def remember(self, tokens: Tokens) -> None:
        own = self.hidden_size // self.heads
        keep = keep_logit(time_constants("an sLSTM", own, tokens)).repeat(self.heads)
        self.bias[self.hidden_size : 2 * self.hidden_size] = keep

    def input_weights(self) -> tuple[Tensor, Tensor | None]:
        return self.weight_ih, self.bias

    def weights(self) -> tuple[Tensor, ...]:
        return (self.weight_hh,)


def preactivations(gates: Tensor, y: Tensor, R: Tensor) -> tuple[Tensor, ...]:
    """gates (B, 4 H) plus each head's recurrence: i, f, z, o (B, H)."""
    heads, _, own = R.shape
    recurrent = torch.einsum("bhd,hgd->bhg", y.unflatten(-1, (heads, own)), R)
    by_gate = recurrent.unflatten(-1, (4, own)).transpose(1, 2).flatten(1)  # (B, 4, heads, own) -> (B, 4 H)
    return (gates + by_gate).chunk(4, -1)


def slstm_step(
    gates: Tensor, state: States, weights: Weights, masks: Masks | None = None
) -> tuple[Tensor, States]:
    """One step on projected input (B, 4 H); weights: R."""
    y, c, n, m = state
    i, f, z, o = preactivations(gates, seen(masks, y), weights[0])  # pyright: ignore[reportArgumentType]
    raised = F.logsigmoid(f) + m
    m = torch.where(n == 0, i, torch.maximum(raised, i))
    i, f = (i - m).clamp(max=0).exp(), (raised - m).clamp(max=0).exp()
    c = f * c + i * written(masks, z.tanh())
    n = f * n + i
    y = o.sigmoid() * c / n
    return y, (y, c, n, m)


def heads_lstm_step(
    gates: Tensor, state: States, weights: Weights, masks: Masks | None = None
) -> tuple[Tensor, States]:
    """One step of LSTM gates on the same heads."""
    y, c = state
    i, f, z, o = preactivations(gates, seen(masks, y), weights[0])  # pyright: ignore[reportArgumentType]
    c = f.sigmoid() * c + i.sigmoid() * written(masks, z.tanh())
    y = o.sigmoid() * c.tanh()
    return y, (y, c)
