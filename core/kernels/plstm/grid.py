"""pLSTM on a grid: states travel along edges to the right and downwards (arXiv 2506.11997).

A node (x, y) receives L from (x-1, y) and U from (x, y-1) and sends R to (x+1, y), D to (x, y+1):

    R = T_rl L + T_ru U + S_r (k v^T),   D = T_dl L + T_du U + S_d (k v^T)
    y = dk^(-1/2) q^T (M_l L + M_u U + D_0 k v^T)

"Right" runs along the first axis of the grid, "down" along the second. Nodes of one anti-diagonal do not
depend on each other, so X + Y - 1 steps do. On small grids the states hold, in place of k v^T, one number
for every source node: that gives the gate between any two nodes, and the rest is like attention.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from core.kernels.precision import widen, without_autocast


class Gates(NamedTuple):
    """Gates of one orientation, first axes (B, X, Y)."""

    s_r: Tensor
    """(.., JT, JK, JV)"""
    s_d: Tensor
    t_rl: Tensor
    """(.., JT, JT)"""
    t_du: Tensor
    t_dl: Tensor
    t_ru: Tensor
    m_l: Tensor
    """(.., JO, JQ, JT)"""
    m_u: Tensor


def plstm_grid_ref(q: Tensor, k: Tensor, v: Tensor, gates: Gates, direct: Tensor | None = None) -> Tensor:
    """The definition: node after node. Shapes as in `plstm_grid`."""
    width, height = q.shape[1:3]
    nothing = q.new_zeros(q.shape[0], q.shape[3], v.shape[3], gates.t_rl.shape[-1])
    right: dict[tuple[int, int], Tensor] = {}
    down: dict[tuple[int, int], Tensor] = {}
    rows = []
    for x in range(width):
        row = []
        for y in range(height):
            g = Gates(*(gate[:, x, y] for gate in gates))
            left, up = right.get((x - 1, y), nothing), down.get((x, y - 1), nothing)
            marked = torch.einsum("bocj,bdej->bdeoc", g.m_l, left) + torch.einsum(
                "bocj,bdej->bdeoc", g.m_u, up
            )
            if direct is not None:
                marked = marked + torch.einsum(
                    "bocfg,bdf,beg->bdeoc", direct[:, x, y], k[:, x, y], v[:, x, y]
                )
            row.append(torch.einsum("bdc,bdeoc->beo", q[:, x, y], marked) * q.shape[3] ** -0.5)
            for edges, t_l, t_u, s in ((right, g.t_rl, g.t_ru, g.s_r), (down, g.t_dl, g.t_du, g.s_d)):
                passed = torch.einsum("bji,bdei->bdej", t_l, left) + torch.einsum("bji,bdei->bdej", t_u, up)
                edges[x, y] = passed + torch.einsum("bjfg,bdf,beg->bdej", s, k[:, x, y], v[:, x, y])
        rows.append(torch.stack(row, 1))
    return torch.stack(rows, 1)


@without_autocast
def plstm_grid(q: Tensor, k: Tensor, v: Tensor, gates: Gates, direct: Tensor | None = None) -> Tensor:
    """One orientation of the grid.

    Args:
        q, k, v: (B, X, Y, dk, JQ), (B, X, Y, dk, JK), (B, X, Y, dv, JV).
        gates: see `Gates`.
        direct: (B, X, Y, JO, JQ, JK, JV), or None: no weight of a node on itself.

    Returns:
        (B, X, Y, dv, JO) in float32 at least.
    """
    q, k, v, direct, *wide = widen(q, k, v, direct, *gates)
    gates = Gates(*wide)
    batch, width, height, dk, jq = q.shape
    dv, jv = v.shape[3:]
    jo, jk, nodes = gates.m_l.shape[3], k.shape[4], width * height
    if nodes <= dk * dv:
        places = torch.eye(nodes, dtype=q.dtype, device=q.device).view(width, height, nodes)
        s_r, s_d = (torch.einsum("xyn,bxyjfg->bxyjnfg", places, s).flatten(4) for s in gates[:2])
        carried = wavefront(gates, s_r, s_d).reshape(batch, nodes, jo, jq, nodes, jk, jv)
        if direct is not None:
            own = direct.flatten(1, 2).unsqueeze(4) * places.view(1, nodes, 1, 1, nodes, 1, 1)
            carried = carried + own
        q, k, v = (x.flatten(1, 2).mT for x in (q, k, v))  # (B, nodes, J, d)
        scores = (q.flatten(1, 2) @ k.flatten(1, 2).mT).view(batch, nodes, jq, nodes, jk)
        weights = torch.einsum("ntocsab,ntcsa->ntosb", carried, scores)
        y = weights.flatten(1, 2).flatten(2, 3) @ v.flatten(1, 2)
        return y.view(batch, width, height, jo, dv).mT * dk**-0.5
    products = torch.einsum("bxydf,bxyeg->bxyfgde", k, v).flatten(5)
    s_r, s_d = (torch.einsum("bxyjfg,bxyfgn->bxyjn", s, products) for s in gates[:2])
    marked = wavefront(gates, s_r, s_d).reshape(batch, width, height, jo, jq, dk, dv)
    y = torch.einsum("bxydc,bxyocde->bxyeo", q, marked)
    if direct is not None:
        scores = torch.einsum("bxydc,bxydf->bxycf", q, k)
        y = y + torch.einsum("bxycf,bxyocfg,bxyeg->bxyeo", scores, direct, v)
    return y * dk**-0.5


def wavefront(gates: Gates, s_r: Tensor, s_d: Tensor) -> Tensor:
    """Sources (B, X, Y, JT, F) carried over the grid and marked -> (B, X, Y, JO JQ, F)."""
    batch, width, height, jt, features = s_r.shape
    # rows: what leaves to the right, what leaves downwards, what is read; columns: from the left, from above
    mix = torch.cat(
        [
            torch.cat([gates.t_rl, gates.t_ru], -1),
            torch.cat([gates.t_dl, gates.t_du], -1),
            torch.cat([gates.m_l.flatten(3, 4), gates.m_u.flatten(3, 4)], -1),
        ],
        -2,
    )
    add = torch.cat([s_r, s_d], 3)
    arrived = s_r.new_zeros(batch, width, 2 * jt, features)
    first = s_r.new_zeros(batch, 1, jt, features)
    marked = []
    for mix_s, add_s in zip(skewed(mix).unbind(2), skewed(add).unbind(2), strict=True):
        passed = mix_s @ arrived
        marked.append(passed[:, :, 2 * jt :])
        sent = passed[:, :, : 2 * jt] + add_s
        arrived = torch.cat([torch.cat([first, sent[:, :-1, :jt]], 1), sent[:, :, jt:]], 2)
    return straight(torch.stack(marked, 2), height)


def skewed(x: Tensor) -> Tensor:
    """(B, X, Y, ..) -> (B, X, X + Y - 1, ..): row x moved by x, so that an anti-diagonal is a column."""
    width, height = x.shape[1:3]
    x = F.pad(x, (0, 0) * (x.ndim - 3) + (0, width)).flatten(1, 2)
    return x[:, :-width].unflatten(1, (width, width + height - 1))


def straight(x: Tensor, height: int) -> Tensor:
    """Back from `skewed`."""
    width = x.shape[1]
    x = F.pad(x.flatten(1, 2), (0, 0) * (x.ndim - 3) + (0, width))
    return x.unflatten(1, (width, width + height))[:, :, :height]
