"""The LSTMs of clstm and ocropy, which old kraken models hold: no bias, a 1 in front of the input.

With peepholes i and f see the old cell and o the new one, and the output gate has no sigmoid.
"""

import torch
from torch import Tensor, nn


class LegacyLSTM(nn.Module):
    """x (B, T, I) -> y (B, T, H or 2 H), None; gates i, f, g, o."""

    def __init__(self, inputs: int, hidden: int, both: bool, *, peephole: bool) -> None:
        super().__init__()
        self.hidden, self.peephole = hidden, peephole
        self.endings = ("", "_reverse") if both else ("",)
        for ending in self.endings:
            shapes = {"weight_ih_l0": (4 * hidden, inputs + 1), "weight_hh_l0": (4 * hidden, hidden)}
            if peephole:
                shapes |= {f"weight_{gate}p_l0": (hidden,) for gate in "ifo"}
            for name, shape in shapes.items():
                self.register_parameter(name + ending, nn.Parameter(torch.empty(shape)))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden**-0.5), hidden**-0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        x = torch.cat([x.new_ones(*x.shape[:2], 1), x], 2)
        return torch.cat([self.run(x, ending) for ending in self.endings], 2), None

    def run(self, x: Tensor, ending: str) -> Tensor:
        weights = dict(self.named_parameters())
        w_hh = weights[f"weight_hh_l0{ending}"]
        gates = x @ weights[f"weight_ih_l0{ending}"].T  # (B, T, 4 H)
        h = c = x.new_zeros(len(x), self.hidden)
        steps = range(x.shape[1])
        found = []
        for t in reversed(steps) if ending else steps:
            i, f, g, o = (gates[:, t] + h @ w_hh.T).chunk(4, 1)
            if self.peephole:
                i = i + weights[f"weight_ip_l0{ending}"] * c
                f = f + weights[f"weight_fp_l0{ending}"] * c
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            if self.peephole:
                h = (o + weights[f"weight_op_l0{ending}"] * c) * c.tanh()
            else:
                h = o.sigmoid() * c.tanh()
            found.append(h)
        return torch.stack(found[::-1] if ending else found, 1)
