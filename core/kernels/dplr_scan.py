"""Matrix state with a diagonal plus rank-one transition, chunkwise (RWKV-7, arXiv 2503.14456).

    S_t = diag(w_t) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T,   o_t = S_t^T r_t

The vectors u_t = S_{t-1}^T a_t obey a triangular system inside a chunk that begins in state S. With P_t the
decay from the start of the chunk through t and W_ts the decay after s up to t (up to t-1 in A_ab, A_ak):

    (I - A_ab) U = A_ak V + (P_{t-1} a_t) S          A_xy = lower triangle of sum_c x_tc y_sc W_tsc
    O = (P r) S + A_rb U + A_rk V
    S' = P_L S + (b P_L / P)^T U + (k P_L / P)^T V

The decay of RWKV-7 cannot fall below exp(-0.607) a token, so the factors exp(G_t - c) exp(c - G_s) of W stay
inside float32 for a whole chunk when c is the middle of the range; `bound` states that promise.
"""

import math

import torch
from torch import Tensor

from core.kernels.matrix_scan import chunk_length, first_state, from_chunks, in_chunks
from core.kernels.precision import without_autocast

RANGE = 40.0
"""exp(+-RANGE) and products of two of them stay finite in float32."""


@without_autocast
def dplr_step(
    r: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, log_decay: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: r, k, a, b, log_decay (B, h, K), v (B, h, V), state (B, h, K, V) -> o (B, h, V), state."""
    batch, heads, key, value = state.shape
    column, row = (batch * heads, key, 1), (batch * heads, 1, -1)
    r, k, v, a, b = (x.to(state.dtype) for x in (r, k, v, a, b))
    now = state.reshape(batch * heads, key, value)
    u = torch.bmm(a.reshape(row), now)
    now = torch.baddbmm(log_decay.exp().reshape(column) * now, b.reshape(column), u)
    now = torch.baddbmm(now, k.reshape(column), v.reshape(row))
    return torch.bmm(r.reshape(row), now).view(batch, heads, value), now.view(state.shape)


@without_autocast
def dplr_ref(
    r: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, log_decay: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition: one token after another. Shapes as in `dplr_scan`."""
    now = first_state(k, v, state)
    outputs = []
    r, k, wide, a, b, decay = (x.to(now.dtype) for x in (r, k, v, a, b, log_decay))
    tokens = zip(*(x.unbind(1) for x in (r, k, wide, a, b, decay)), strict=True)
    for r_t, k_t, v_t, a_t, b_t, g_t in tokens:
        o, now = dplr_step(r_t, k_t, v_t, a_t, b_t, g_t, now)
        outputs.append(o)
    return torch.stack(outputs, 1).to(v.dtype), now


@without_autocast
def dplr_scan(
    r: Tensor,
    k: Tensor,
    v: Tensor,
    a: Tensor,
    b: Tensor,
    log_decay: Tensor,
    state: Tensor | None = None,
    *,
    bound: float,
    chunk: int = 32,
) -> tuple[Tensor, Tensor]:
    """The recurrence in dense products.

    Args:
        r, k, a, b: (B, T, h, K), T >= 1.
        v: (B, T, h, V).
        log_decay: log w (B, T, h, K), everywhere in [bound, 0].
        state: (B, h, K, V) before the first token; None is zeros.
        bound: the least log decay a token can have; limits the length of a chunk.
        chunk: tokens of a dense block.

    Returns:
        o (B, T, h, V) of the type of v, and the state after the last token, in float32 at least.

    Raises:
        ValueError: a bound that is not negative, or so low that two tokens leave the range of float32.
    """
    if not -RANGE <= bound < 0:
        raise ValueError(f"the bound of a log decay must be in [{-RANGE}, 0), got {bound}")
    start = first_state(k, v, state)
    batch, heads, key, value = start.shape
    length = min(chunk_length(r.shape[1], chunk), math.floor(2 * RANGE / -bound))
    r, k, v_, a, b, decay = (in_chunks(x, length, start.dtype) for x in (r, k, v, a, b, log_decay))
    gone = decay.cumsum(1)  # G (N, L, K)
    centre = length * bound / 2
    rise, fall = (gone - centre).exp(), (centre - gone).exp()
    a_rise, r_rise = a * (gone - decay - centre).exp(), r * rise
    b_fall, k_fall = b * fall, k * fall

    ones = torch.ones(length, length, dtype=torch.bool, device=v.device)
    products = torch.cat([a_rise, r_rise], 1) @ torch.cat([b_fall, k_fall], 1).mT
    later = torch.cat([ones.triu(), ones.triu(1)]).repeat(1, 2)  # a sees s < t, r sees s <= t
    products = products.masked_fill(later, 0.0)
    by_a, by_r = products.split(length, 1)
    back = math.exp(centre)
    solved = torch.linalg.solve_triangular(
        -by_a[..., :length],
        torch.cat([by_a[..., length:] @ v_, a_rise * back], -1),
        upper=False,
        unitriangular=True,
    )
    until_end = gone[:, -1:] - centre
    ending = torch.exp(until_end)
    writes = (k_fall * ending).mT @ v_
    total = (ending * back).mT  # (N, K, 1)

    def per_chunk(x: Tensor) -> tuple[Tensor, ...]:
        return x.view(batch * heads, -1, *x.shape[1:]).unbind(1)

    now, states, found = start.reshape(batch * heads, key, value), [], []
    pieces = [solved[..., :value], solved[..., value:], (b_fall * ending).mT, total, writes]
    for base, sees, b_c, keep, write in zip(*map(per_chunk, pieces), strict=True):
        states.append(now)
        u = torch.baddbmm(base, sees, now)
        found.append(u)
        now = torch.baddbmm(torch.addcmul(write, keep, now), b_c, u)
    u = torch.stack(found, 1).view(v_.shape)
    before = torch.stack(states, 1).view(-1, key, value)
    o = torch.baddbmm(by_r @ torch.cat([u, v_], 1), r_rise * back, before)
    return from_chunks(o, v), now.view(start.shape)
