"""pLSTM on a sequence: source, transition, mark and direct gates as small matrices (arXiv 2506.11997).

    C_t = T_t C_{t-1} + S_t (k_t v_t^T)                                       C (dk, dv, JT)
    y_t = dk^(-1/2) q_t^T (M_t C_{t-1} + D_t k_t v_t^T)                       y (dv, JO)

The mark reads the state before the current source; the direct gate adds the current token. Inside a chunk
the gate from source s to mark t, M_t T_{t-1} .. T_{s+1} S_s, is built by doubling: two neighbouring blocks,
the earlier first, with transition T, sources S carried to their end, marks M carried to their begin, give

    T = T_2 T_1,   S = [T_2 S_1, S_2],   M = [M_1; M_2 T_1],   G = [[G_1, 0], [M_2 S_1, G_2]]

Only products, never a quotient: transitions of any sign or size, zero included, are exact.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from core.kernels.precision import widen, without_autocast


@without_autocast
def plstm_ref(
    q: Tensor, k: Tensor, v: Tensor, s: Tensor, t: Tensor, m: Tensor, d: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition: one token after another. Shapes as in `plstm_scan`."""
    q, k, v, s, t, m, d, now = widen(q, k, v, s, t, m, d, empty_state(k, v, t) if state is None else state)
    outputs = []
    for token in zip(*(x.unbind(1) for x in (q, k, v, s, t, m, d)), strict=True):
        y, now = plstm_step(*token, now)  # pyright: ignore[reportCallIssue]
        outputs.append(y)
    return torch.stack(outputs, 1), now


def plstm_step(
    q: Tensor, k: Tensor, v: Tensor, s: Tensor, t: Tensor, m: Tensor, d: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token, shapes as in `plstm_scan` without T -> y (B, dv, JO), state."""
    read = torch.einsum("bdc,bocj,bdej->beo", q, m, state)
    read = read + torch.einsum("bdc,bocfg,bdf,beg->beo", q, d, k, v)
    state = torch.einsum("bji,bdei->bdej", t, state) + torch.einsum("bjfg,bdf,beg->bdej", s, k, v)
    return read * q.shape[1] ** -0.5, state


@without_autocast
def plstm_scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    s: Tensor,
    t: Tensor,
    m: Tensor,
    d: Tensor,
    state: Tensor | None = None,
    *,
    chunk: int = 32,
) -> tuple[Tensor, Tensor]:
    """The recurrence in dense products.

    Args:
        q, k: (B, T, dk, JQ) and (B, T, dk, JK), any T >= 1.
        v: (B, T, dv, JV).
        s: sources (B, T, JT, JK, JV).
        t: transitions (B, T, JT, JT).
        m: marks (B, T, JO, JQ, JT).
        d: direct gates (B, T, JO, JQ, JK, JV).
        state: (B, dk, dv, JT) before the first token; None is zeros.
        chunk: tokens of a dense block, a power of two.

    Returns:
        y (B, T, dv, JO) in float32 at least, and the state after the last token.
    """
    if chunk < 1 or chunk & (chunk - 1):
        raise ValueError(f"chunk must be a power of two, got {chunk}")
    start = empty_state(k, v, t) if state is None else state
    q, k, v, s, t, m, d, start = widen(q, k, v, s, t, m, d, start)
    batch, time, dk, jq = q.shape
    dv, jv = v.shape[2:]
    jt, jk = s.shape[2], s.shape[3]
    jo = m.shape[2]
    length = min(chunk, 1 << (time - 1).bit_length())
    identity = torch.eye(jt, dtype=t.dtype, device=t.device)
    t = torch.cat([t, identity.expand(batch, -time % length, jt, jt)], 1)
    q, k, v, s, m, d = (F.pad(x, (0, 0) * (x.ndim - 2) + (0, -time % length)) for x in (q, k, v, s, m, d))
    q, k, v, s, t, m, d = (x.reshape(-1, length, *x.shape[2:]) for x in (q, k, v, s, t, m, d))

    gates, sources, marks, through = carried_gates(s, t, m, d)
    scores = q.mT.flatten(1, 2) @ k.mT.flatten(1, 2).mT  # (N, L JQ, L JK)
    weights = torch.einsum(
        "ntocsab,ntcsa->ntosb",
        gates.view(-1, length, jo, jq, length, jk, jv),
        scores.view(-1, length, jq, length, jk),
    )
    values = v.mT.flatten(1, 2)  # (N, L JV, dv)
    inside = weights.flatten(1, 2).flatten(2, 3) @ values
    reads = torch.einsum("ntocj,ntdc->ntojd", marks.view(-1, length, jo, jq, jt), q)
    writes = torch.einsum("njsab,nsda->njdsb", sources.view(-1, jt, length, jk, jv), k)
    written = writes.flatten(3, 4).flatten(1, 2) @ values  # (N, JT dk, dv)

    now, states = start.permute(0, 3, 1, 2).reshape(batch, jt, dk * dv), []
    pieces = written.view(batch, -1, jt, dk * dv).unbind(1)
    for write, across in zip(pieces, through.view(batch, -1, jt, jt).unbind(1), strict=True):
        states.append(now)
        now = torch.baddbmm(write, across, now)
    before = torch.stack(states, 1).view(-1, jt * dk, dv)
    y = torch.baddbmm(inside, reads.reshape(-1, length * jo, jt * dk), before) * dk**-0.5
    y = y.view(batch, -1, jo, dv)[:, :time].mT
    return y, now.view(batch, jt, dk, dv).permute(0, 2, 3, 1)


def carried_gates(s: Tensor, t: Tensor, m: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gates of chunks (N, L, ..) -> G (N, L JO JQ, L JK JV), S (N, JT, L JK JV), M (N, L JO JQ, JT), T."""
    gates = d.flatten(4, 5).flatten(2, 3)  # (N, blocks, rows, columns), blocks of one token
    sources, marks, through = s.flatten(3, 4), m.flatten(2, 3), t
    while through.shape[1] > 1:
        t1, t2 = through[:, ::2], through[:, 1::2]
        s1, s2 = sources[:, ::2], sources[:, 1::2]
        m1, m2 = marks[:, ::2], marks[:, 1::2]
        g1, g2 = gates[:, ::2], gates[:, 1::2]
        upper = torch.cat([g1, torch.zeros_like(g1)], -1)
        gates = torch.cat([upper, torch.cat([m2 @ s1, g2], -1)], -2)
        sources = torch.cat([t2 @ s1, s2], -1)
        marks = torch.cat([m1, m2 @ t1], -2)
        through = t2 @ t1
    return gates.squeeze(1), sources.squeeze(1), marks.squeeze(1), through.squeeze(1)


def empty_state(k: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """Zeros (B, dk, dv, JT)."""
    return k.new_zeros(k.shape[0], k.shape[2], v.shape[2], t.shape[-1])
