"""UniMamba (Jin et al. 2025, arXiv 2503.12009): Z-orders, channels split between local and global scans.

Its code is not public, so this is by definition. A block:

    x <- x + ReLU(BN(submanifold convolution of x))
    four quarters of the channels of LN(x), each through an operator of its own:
        the whole sample along `z`, along `z-trans`; the same orders, begun anew at every change of window
    x <- x + W(all four);  x <- x + W2 GELU(W1 LN(x))

A level is a block, a merge by two on every axis, a block there, and back, as in a LION block.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from vision.pointcloud.models.lion import PatchMerging3D, expand
from vision.pointcloud.orders import curve_keys
from vision.pointcloud.sparse_conv import SubmanifoldConv
from vision.pointcloud.voxels import Voxels

ORDERS = ("z", "z-trans")
Quarter = Callable[[int], nn.Module]
"""Makes an operator of a width: (pieces (G, T, C), filled (G,)) -> (G, T, C)."""


def bits_of(voxels: Voxels) -> int:
    """Bits that every coordinate of a grid fits in."""
    return max(1, (max(voxels.shape) - 1).bit_length())


def pieces(voxels: Voxels, name: str, window: int) -> tuple[Tensor, Tensor]:
    """The rows of voxels along an order (N,), and the lengths of the pieces that it is cut into.

    Args:
        window: edge on x and y; a piece ends where the order leaves a window. 0: a piece is a sample.
    """
    key = ("pieces", name, window)
    if key not in voxels.memo:
        order = curve_keys(voxels.coords, name, bits_of(voxels)).argsort()
        coords = voxels.coords[order]
        where = coords[:, :1]
        if window:
            where = torch.cat([where, coords[:, 2:] // window], 1)
        cuts = (where[1:] != where[:-1]).any(1).nonzero()[:, 0] + 1
        ends = torch.cat([cuts, cuts.new_tensor([len(order)])])
        voxels.memo[key] = order, torch.diff(ends, prepend=ends.new_zeros(1))
    return voxels.memo[key]


def through(features: Tensor, order: Tensor, lengths: Tensor, operator: nn.Module) -> Tensor:
    """Features (N, C) through an operator, piece by piece; padding stands behind the pieces only.

    Pieces of about the same length go together, so that padding at most doubles them: a window is cut into
    many short pieces by a curve, and into few long ones.
    """
    x = features[order]
    starts = lengths.cumsum(0) - lengths
    level = (lengths - 1).clamp(min=1).log2().floor().long()  # lengths 2^k + 1 .. 2^(k + 1) have the level k
    mixed, rows = [], []
    for k in level.unique().tolist():
        own = (level == k).nonzero()[:, 0]
        place = torch.arange(min(2 << k, int(lengths.max())), device=x.device)
        inside = place < lengths[own, None]
        at = torch.where(inside, starts[own, None] + place, 0)
        parts = x[at] * inside[..., None]
        mixed.append(operator(parts, lengths[own])[inside])
        rows.append(order[at[inside]])
    every = torch.cat(mixed)
    return torch.empty_like(every).index_copy(0, torch.cat(rows), every)


class UniMambaBlock(nn.Module):
    """(N, C) -> (N, C)."""

    def __init__(self, dim: int, window: int, quarter: Quarter) -> None:
        super().__init__()
        if dim % 4:
            raise ConfigError(f"UniMamba splits its channels in four: dim {dim} does not divide.")
        self.window = window
        self.conv, self.bn = SubmanifoldConv(dim, dim), nn.BatchNorm1d(dim, eps=1e-3, momentum=0.01)
        self.norm = nn.LayerNorm(dim)
        self.quarters = nn.ModuleList(quarter(dim // 4) for _ in range(4))
        self.out = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )

    def forward(self, voxels: Voxels) -> Voxels:
        if not len(voxels):
            return voxels
        x = voxels.features
        x = x + torch.relu(self.bn(self.conv(voxels)))
        plans = [pieces(voxels, name, window) for name in ORDERS for window in (0, self.window)]
        parts = self.norm(x).chunk(4, 1)
        mixed = [
            through(part, *plan, operator)
            for part, plan, operator in zip(parts, plans, self.quarters, strict=True)
        ]
        x = x + self.out(torch.cat(mixed, 1))
        return voxels.having(x + self.mlp(x))


class UniMambaLevel(nn.Module):
    """A fine block, a merge, a coarse block, and back onto the fine voxels."""

    def __init__(self, dim: int, window: int, quarter: Quarter) -> None:
        super().__init__()
        self.fine = UniMambaBlock(dim, window, quarter)
        self.merge = PatchMerging3D(dim, -1, (2, 2, 2))
        self.coarse = UniMambaBlock(dim, window, quarter)
        self.norm = nn.LayerNorm(dim)

    def forward(self, voxels: Voxels) -> Voxels:
        if not len(voxels):
            return voxels
        fine = self.fine(voxels)
        merged, inverse = self.merge(fine)
        x = expand(fine, self.coarse(merged), inverse)
        return x.having(self.norm(x.features))
