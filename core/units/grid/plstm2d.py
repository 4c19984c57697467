"""pLSTM on a grid, an image or a map (Poeppel et al. 2025, arXiv 2506.11997).

Four orientations, the grid flipped along neither axis, the first, the second, both, are summed; each has
gates of its own per head (index head * 4 + orientation). With t = tanh(5 (w . x + b)) and sigmoid biases:

    mode "P", propagate: a = sigmoid(b + w . x / (2 I));  s_r = a s, s_d = 1 - s_r;
        t_rl = t_ru = a t,  t_dl = t_du = 1 - a t         what leaves a node sums to one, along a direction
    mode "D", diffuse: s_r, s_d, t_rl, t_du free, t_ru too, t_dl = 0    one diagonal turn, so that the
        number of paths does not explode
    y = W norm(sum of orientations + direct),  rms norm per head

The propagating gate is read in the published index order: a of (orientation, head) meets s and t of
(head, orientation).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.plstm.grid import Gates, plstm_grid
from core.units.grid.plstm import SHARPNESS, by_head, grid_heads, head_rms, headwise, slow_to_fast

FLIPS = ((), (1,), (2,), (1, 2))


class PLSTM2D(nn.Module):
    """x (B, X, Y, I) -> y (B, X, Y, H); every node reads the whole grid, so there is no state.

    Args:
        mode: "P" propagates along directions, "D" diffuses.
        heads: must divide both widths; default one for 64 channels where that divides them.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, mode: str = "P", heads: int | None = None
    ) -> None:
        super().__init__()
        if mode not in ("P", "D"):
            raise ConfigError(f"PLSTM2D has mode P or D, got {mode!r}")
        if input_size < 1 or hidden_size < 1:
            raise ConfigError(f"PLSTM2D needs positive widths, got input {input_size}, hidden {hidden_size}")
        self.input_size, self.hidden_size, self.mode = input_size, hidden_size, mode
        self.heads = h = grid_heads("PLSTM2D", input_size, hidden_size, heads)
        width, inputs = hidden_size // h, input_size // h
        self.query_weight, self.query_bias = headwise(h, width, inputs)
        self.key_weight, self.key_bias = headwise(h, width, inputs)
        self.value_weight, self.value_bias = headwise(h, width, inputs)
        # transitions: one in mode P; right, down and the turn from above to the right in mode D
        turns = 1 if mode == "P" else 3
        ends = 1 if mode == "P" else 2
        self.source = nn.Parameter(torch.zeros(ends, 4 * h))
        self.mark = nn.Parameter(torch.zeros(ends, 4 * h))
        self.direct = nn.Parameter(torch.zeros(h))
        self.transition_weight = nn.Parameter(torch.zeros(turns, 4 * h, input_size))
        self.transition_bias = nn.Parameter(slow_to_fast(h).repeat_interleave(4).repeat(turns, 1))
        if mode == "P":
            self.orientation_weight = nn.Parameter(torch.zeros(4 * h, input_size))
            self.orientation_bias = nn.Parameter(torch.zeros(4 * h))
        self.norm = nn.Parameter(torch.ones(h, width))
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[-1] != self.input_size:
            raise ValueError(f"PLSTM2D expects x of shape (B, X, Y, {self.input_size}), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"PLSTM2D expects floating-point x, got {x.dtype}")
        if not x.shape[1] * x.shape[2]:
            return x.new_zeros(*x.shape[:3], self.hidden_size)
        dtype = torch.promote_types(x.dtype, torch.float32)
        q = by_head(x, self.query_weight, self.query_bias).to(dtype)
        k = by_head(x, self.key_weight, self.key_bias).to(dtype)
        v = by_head(x, self.value_weight, self.value_bias).to(dtype)
        four = (self.turned(part.unsqueeze(-2).expand(*part.shape[:-1], 4, -1)) for part in (q, k, v))
        q4, k4, v4 = (part.unsqueeze(-1) for part in four)
        turned = [self.turned(gate.unsqueeze(-1)).unsqueeze(-1) for gate in self.gates(x, dtype)]
        s_r, s_d, t_rl, t_du, t_dl, t_ru, m_l, m_u = turned
        s_r, s_d, m_l, m_u = (gate.unsqueeze(-1) for gate in (s_r, s_d, m_l, m_u))
        y = plstm_grid(q4, k4, v4, Gates(s_r, s_d, t_rl, t_du, t_dl, t_ru, m_l, m_u)).squeeze(-1)
        own = self.direct.sigmoid()[:, None] * (q * k).sum(-1, keepdim=True) * v * q.shape[-1] ** -0.5
        y = head_rms(self.back(y) + own, self.norm)
        return self.output(y.flatten(-2).to(x.dtype))

    def gates(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """s_r, s_d, t_rl, t_du, t_dl, t_ru, m_l, m_u, each (B, X, Y, h, 4)."""
        t = (
            torch.einsum("bxyi,tgi->tbxyg", x, self.transition_weight)
            + self.transition_bias[:, None, None, None]
        )
        t = (SHARPNESS * t.to(dtype)).tanh()
        s, m = (
            gate.to(dtype).sigmoid()[:, None, None, None].expand(-1, *t.shape[1:])
            for gate in (self.source, self.mark)
        )
        if self.mode == "P":
            a = F.linear(x, self.orientation_weight) / (2 * self.input_size) + self.orientation_bias
            a = a.to(dtype).sigmoid()
            right, along = a * s[0], a * t[0]
            found = (right, 1 - right, along, 1 - along, 1 - along, along, m[0], m[0])
        else:
            found = (s[0], s[1], t[0], t[1], torch.zeros_like(t[0]), t[2], m[0], m[1])
        return tuple(gate.unflatten(-1, (self.heads, 4)) for gate in found)

    def turned(self, x: Tensor) -> Tensor:
        """(B, X, Y, h, 4, D) -> (B h 4, X, Y, D), each orientation flipped to run right and down."""
        flipped = [part.flip(axes) if axes else part for part, axes in zip(x.unbind(4), FLIPS, strict=True)]
        return torch.stack(flipped, 1).permute(0, 4, 1, 2, 3, 5).flatten(0, 2)

    def back(self, y: Tensor) -> Tensor:
        """(B h 4, X, Y, D) -> (B, X, Y, h, D): flipped back and summed."""
        parts = y.unflatten(0, (-1, self.heads, 4)).unbind(2)
        total = [
            part.flip([a + 1 for a in axes]) if axes else part
            for part, axes in zip(parts, FLIPS, strict=True)
        ]
        return torch.stack(total).sum(0).permute(0, 2, 3, 1, 4)
