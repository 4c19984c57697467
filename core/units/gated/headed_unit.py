"""What ParaGRU and ParaLSTM share: three gates, a diagonal recurrence, a block-diagonal input matrix."""

from math import gcd

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.parts.heads import default_heads
from core.units.gated.newton_unit import NewtonUnit


class HeadedUnit(NewtonUnit):
    """Head k of the input (I / heads) feeds head k of every gate (H / heads).

    weight_ih (heads, I / heads, 3, H / heads), weight_hh (3, H), bias (3, H); the gates come out as
    (B, T, 3 H), one gate after another.
    """

    no_decay = ("weight_hh",)

    def __init__(self, input_size: int, hidden_size: int, *, heads: int | None = None) -> None:
        super().__init__(input_size, hidden_size)
        common = gcd(input_size, hidden_size)
        if heads is None:
            heads = default_heads(hidden_size, input_size)
        elif heads < 1 or common % heads:
            raise ConfigError(
                f"{type(self).__name__} needs heads that divide both widths, input {input_size} and "
                f"hidden {hidden_size}; got {heads}"
            )
        self.heads = heads
        inner, own = input_size // heads, hidden_size // heads
        self.weight_ih = nn.Parameter(torch.empty(heads, inner, 3, own))
        self.weight_hh = nn.Parameter(torch.empty(3, hidden_size))
        self.bias = nn.Parameter(torch.zeros(3, hidden_size))
        nn.init.uniform_(self.weight_ih, -((6 / (inner + own)) ** 0.5), (6 / (inner + own)) ** 0.5)
        nn.init.normal_(self.weight_hh, std=(2 / (5 * hidden_size)) ** 0.5)

    def input_weights(self) -> tuple[Tensor, Tensor]:
        """The same as one matrix (3 H, I), for the loop that projects by itself."""
        blocks = torch.diag_embed(self.weight_ih.permute(2, 3, 1, 0), dim1=1, dim2=3)  # (3, h, own, h, inner)
        return blocks.reshape(3 * self.hidden_size, self.input_size), self.bias.flatten()

    def projected(self, x: Tensor) -> Tensor:
        return head_projection(x, self.weight_ih, self.bias)

    def weights(self) -> tuple[Tensor | None, ...]:
        return (self.weight_hh.flatten(),)


def head_projection(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (B, T, I), weight (heads, I / heads, 3, H / heads), bias (3, H) -> gates (B, T, 3 H)."""
    parts = x.unflatten(-1, weight.shape[:2])
    return torch.einsum("bthi,higs->btghs", parts, weight).flatten(2) + bias.flatten()
