"""LION's xLSTM: two residual mLSTM blocks, the first forward, the second over the reversed tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.kernels.mlstm_chunk import mlstm_chunkwise
from core.parts.drop_path import DropPath

HEADS, BLOCK, CONV = 4, 4, 4


class OffsetNorm(nn.Module):
    """Layer normalisation with weight 1 + w, over groups of channels."""

    def __init__(self, width: int, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        part = x.unflatten(-1, (self.groups, -1))
        normed = functional.layer_norm(part, part.shape[-1:], eps=self.eps).flatten(-2)
        return normed * (1 + self.weight) + self.bias


class BlockLinear(nn.Module):
    """A linear map of blocks of four channels: weight (blocks, 4, 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width // BLOCK, BLOCK, BLOCK) * (2 / (5 * BLOCK)) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        part = x.unflatten(-1, (-1, BLOCK))
        return torch.einsum("...bi,boi->...bo", part, self.weight).flatten(-2) + self.bias


class CausalConv(nn.Module):
    """Depthwise convolution of the last four tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, CONV, groups=width, padding=CONV - 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.mT)[..., : x.shape[1]].mT


class Cell(nn.Module):
    """The memory itself: gates from q, k and v."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.igate = nn.Linear(3 * inner, HEADS)
        self.fgate = nn.Linear(3 * inner, HEADS)
        self.outnorm = OffsetNorm(inner, HEADS)
        nn.init.zeros_(self.fgate.weight)
        with torch.no_grad():
            self.fgate.bias.copy_(torch.linspace(3, 6, HEADS))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        gates = torch.cat([q, k, v], -1)
        q, k, v = (part.unflatten(-1, (HEADS, -1)) for part in (q, k, v))
        h, _ = mlstm_chunkwise(q, k, v, self.igate(gates), self.fgate(gates))
        return self.outnorm(h.flatten(-2))


class Layer(nn.Module):
    """(G, T, C) -> same: up to 2 C, memory with a gate and a skip around it, down."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 2 * width
        self.proj_up = nn.Linear(width, 2 * inner)
        self.q_proj, self.k_proj, self.v_proj = BlockLinear(inner), BlockLinear(inner), BlockLinear(inner)
        self.conv = CausalConv(inner)
        self.mlstm_cell = Cell(inner)
        self.learnable_skip = nn.Parameter(torch.ones(inner))
        self.proj_down = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        x, z = self.proj_up(x).chunk(2, -1)
        near = functional.silu(self.conv(x))
        h = self.mlstm_cell(self.q_proj(near), self.k_proj(near), self.v_proj(x))
        return self.proj_down((h + self.learnable_skip * near) * functional.silu(z))


class OneWay(nn.Module):
    """A residual branch, normalised before."""

    def __init__(self, width: int, drop_path: float) -> None:
        super().__init__()
        self.norm = OffsetNorm(width)
        self.layer = Layer(width)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.layer(self.norm(x)))


class XLSTMOperator(nn.Module):
    """(G, T, C) -> same; C a multiple of four."""

    def __init__(self, width: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.rowwise_from_top_left = OneWay(width, drop_path)
        self.rowwise_from_bot_right = OneWay(width, drop_path)

    def forward(self, x: Tensor, filled: Tensor | None = None) -> Tensor:
        x = self.rowwise_from_top_left(x)
        return self.rowwise_from_bot_right(x.flip(1)).flip(1)
