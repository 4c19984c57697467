"""LION's Mamba: one projection in and out, a convolution and a selective scan for each direction.

y = x + LN(W_out (forward(u, z) + backward(u, z)))           u, z = W_in x
forward: selective scan of silu(conv(u)), gated by silu(z); backward: the same of the reversed tokens
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.kernels.choice import memory_on
from core.kernels.selective_scan import selective_scan
from core.kernels.short_conv import short_conv_silu
from core.kernels.vector_math import compiled, part, sigmoid
from core.parts.drop_path import DropPath
from vision.pointcloud.rows import loops


class TwoWayMamba(nn.Module):
    """(G, T, C) -> same. Parameters of the backward direction end in `_b`, as published."""

    def __init__(self, width: int, d_state: int, d_conv: int, expand: int) -> None:
        super().__init__()
        inner, rank = expand * width, math.ceil(width / 16)
        self.rank, self.state = rank, d_state
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.out_proj = nn.Linear(inner, width, bias=False)
        start = torch.arange(1.0, d_state + 1).log().repeat(inner, 1)
        for end in ("", "_b"):
            setattr(self, f"conv1d{end}", nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1))
            setattr(self, f"x_proj{end}", nn.Linear(inner, rank + 2 * d_state, bias=False))
            step = nn.Linear(rank, inner)
            nn.init.uniform_(step.weight, -(rank**-0.5), rank**-0.5)
            rate = torch.exp(torch.rand(inner) * (math.log(0.1) - math.log(0.001)) + math.log(0.001))
            with torch.no_grad():
                step.bias.copy_(rate.clamp(min=1e-4) + torch.log(-torch.expm1(-rate.clamp(min=1e-4))))
            setattr(self, f"dt_proj{end}", step)
            self.register_parameter("A_log" if not end else "A_b_log", nn.Parameter(start.clone()))
            self.register_parameter(f"D{end}", nn.Parameter(torch.ones(inner)))

    def one_way(self, u: Tensor, z: Tensor, end: str) -> Tensor:
        """One direction of (G, T, inner) tokens in its order."""
        conv, project, step = (getattr(self, f"{name}{end}") for name in ("conv1d", "x_proj", "dt_proj"))
        log, skip = getattr(self, "A_log" if not end else "A_b_log"), getattr(self, f"D{end}")
        u = functional.silu(conv(u.mT)[..., : u.shape[1]].mT)
        r, b, c = project(u).split([self.rank, self.state, self.state], -1)
        return selective_scan(u, step(r), -log.float().exp(), b, c, skip, z)[0]

    def looped(self, x: Tensor) -> Tensor:
        """The same without gradients on a CPU: both directions read one array, and meet under one gate."""
        both = self.in_proj(x)
        inner = both.shape[-1] // 2
        sums = []
        for end in ("", "_b"):
            conv, project, step = (getattr(self, f"{name}{end}") for name in ("conv1d", "x_proj", "dt_proj"))
            log, skip = getattr(self, "A_log" if not end else "A_b_log"), getattr(self, f"D{end}")
            u = short_conv_silu(both, inner, conv.weight[:, 0].t(), conv.bias, bool(end))
            r, b, c = project(u).split([self.rank, self.state, self.state], -1)
            y, _ = selective_scan(u, step(r), -log.float().exp(), b, c)
            sums += [y.numpy(), u.numpy(), skip.detach().numpy()]
        meet_loop(both.numpy(), *sums)
        return self.out_proj(torch.from_numpy(sums[0]))

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled() and memory_on([x]) == "cpu" and loops(x, self.in_proj.weight):
            return self.looped(x)
        u, z = self.in_proj(x).chunk(2, -1)
        back = self.one_way(u.flip(1), z.flip(1), "_b").flip(1)
        return self.out_proj(self.one_way(u, z, "") + back)


@compiled
def meet_loop(both, y, u, skip, y_back, u_back, skip_back):  # noqa: ANN001, ANN201
    """y (G, T, I) = (y + D u + what lies reversed in y_back and u_back) silu(z), z the rear half of both."""
    _, time, inner = y.shape
    width = both.shape[2]
    gates, sums, inputs = both.reshape(-1), y.reshape(-1), u.reshape(-1)
    sums_back, inputs_back = y_back.reshape(-1), u_back.reshape(-1)
    for g in range(len(y)):
        for t in range(time):
            token, mirror = g * time + t, g * time + time - 1 - t
            z, total = part(gates, token * width + inner, inner), part(sums, token * inner, inner)
            own = part(inputs, token * inner, inner)
            other, mate = part(sums_back, mirror * inner, inner), part(inputs_back, mirror * inner, inner)
            for c in range(inner):
                total[c] += skip[c] * own[c] + skip_back[c] * mate[c] + other[c]
            for c in range(inner):
                total[c] *= z[c] * sigmoid(z[c])


class MambaOperator(nn.Module):
    """(G, T, C) -> same, normalised after the mixing."""

    def __init__(
        self, width: int, *, d_state: int = 16, d_conv: int = 4, expand: int = 2, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.mamba = TwoWayMamba(width, d_state, d_conv, expand)
        self.norm = nn.LayerNorm(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, filled: Tensor | None = None) -> Tensor:
        return x + self.drop_path(self.norm(self.mamba(x)))
