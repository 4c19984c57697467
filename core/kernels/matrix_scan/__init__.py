"""Recurrences with a matrix state S (K, V) per head, chunkwise: dense products inside, a short loop across.

`definition.py` beside this file says what is computed. Within a chunk of L tokens that begins in state S,
with P the decay since the beginning of the chunk, E the decay until its end, and A the decayed lower
triangle of Q K^T (`products.py`):

    O = (P * Q) S + A V          S' = total * S + (E * K)^T V

(Yang et al. 2023, arXiv 2312.06635). The delta rule first replaces V by what is really written, from the
WY form of the product of Householder-like factors (Yang et al. 2024, arXiv 2406.06484; 2412.06464):

    V' = U - W S,   [U, W] = (I + strict lower triangle of diag(beta) A_K)^{-1} diag(beta) [V, P * K]

with A_K the decayed triangle of K K^T.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from core.kernels.choice import memory_on, version, wants_gradients
from core.kernels.matrix_scan import definition
from core.kernels.matrix_scan.definition import decayed
from core.kernels.matrix_scan.products import decayed_products


def decay_scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    bonus: Tensor | None = None,
    chunk: int = 64,
) -> tuple[Tensor, Tensor]:
    """S_t = diag(exp(log_decay_t)) S_{t-1} + k_t v_t^T, o_t = S_t^T q_t; the query is not scaled.

    Args:
        q, k: (B, T, h, K).
        v: (B, T, h, V).
        log_decay: (B, T, h), one per head, or (B, T, h, K), one per key channel; -inf empties the state
            before the token is written; None keeps everything.
        state: (B, h, K, V) before the first token; None is zeros.
        bonus: u, broadcast to (B, h, K). When given, the state is read before the update and the current
            token counts with weight u: o_t = (S_{t-1} + diag(u) k_t v_t^T)^T q_t, as in RWKV-5 and 6.
        chunk: tokens per chunk, a power of two.

    Returns:
        o (B, T, h, V) of the type of v, and the state after the last token, in float32 at least.

    Raises:
        ValueError: shapes that do not fit together.
    """
    check_shapes(q, k, v, log_decay, state, chunk)
    across = (q.shape[0], *q.shape[2:])
    if bonus is not None and not broadcasts(tuple(bonus.shape), across):
        raise ValueError(f"expected a bonus that broadcasts to {across}, got {tuple(bonus.shape)}")
    with torch.autocast(q.device.type, enabled=False):
        start = first_state(k, v, state)
        if not q.shape[0] or not q.shape[1]:
            return v.clone(), start
        if log_decay is not None and log_decay.ndim == 3 and bonus is None:
            kernel = fused(q, k, v, log_decay, start)
            if kernel is not None:
                o, end = kernel.forward(q, k, v, log_decay, start)
                return o.to(v.dtype), end
        length = chunk_length(q.shape[1], chunk)
        qs, ks, vs = (in_chunks(x, length, start.dtype) for x in (q, k, v))
        decay = None if log_decay is None else chunked_decay(log_decay, length, start.dtype)
        (scores,), prefix, suffix, total = chunk_products((qs,), ks, decay, strict=bonus is not None)
        if bonus is not None:
            u = bonus.to(start.dtype).expand(across).unsqueeze(1)
            current = in_chunks((q.to(start.dtype) * u * k).sum(-1, keepdim=True), length, start.dtype)
            scores = scores + torch.diag_embed(current.squeeze(-1))
        writes = (ks if suffix is None else ks * suffix).mT @ vs
        states, end = run_states(writes, total, start)
        reads = qs if prefix is None else qs * prefix
        o = torch.baddbmm(scores @ vs, reads, states)
        return from_chunks(o, v), end


def fused(*inputs: Tensor) -> Any:
    """The kernel of a GPU where it computes the same: in float32, no gradient wanted, nothing recorded."""
    if not inputs[0].is_cuda or inputs[-1].dtype != torch.float32 or wants_gradients(*inputs):
        return None
    return version(__name__, "cuda") if memory_on(list(inputs)) == "cuda" else None


def decay_step(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor, bonus: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One token of `decay_scan`, in the precision of the state: q, k (B, h, K) -> o (B, h, V), state."""
    if torch.is_autocast_enabled(q.device.type):
        with torch.autocast(q.device.type, enabled=False):
            return decay_step(q, k, v, log_decay, state, bonus)
    full = state.dtype
    g = None if log_decay is None else log_decay.to(full)
    o, state = definition.decay_step(q.to(full), k.to(full), v.to(full), g, state, bonus)
    return o.to(v.dtype), state


def delta_step(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token of `delta_scan`, in the precision of the state: q, k (B, h, K) -> o (B, h, V), state."""
    if torch.is_autocast_enabled(q.device.type):
        with torch.autocast(q.device.type, enabled=False):
            return delta_step(q, k, v, beta, log_decay, state)
    full, shape = state.dtype, state.shape
    state = decayed(state, None if log_decay is None else log_decay.to(full)).reshape(-1, *shape[2:])
    q, k, value = (x.to(full).reshape(state.shape[0], 1, -1) for x in (q, k, v))  # rows, one per head
    correction = beta.to(full).reshape(state.shape[0], 1, -1) * torch.baddbmm(value, k, state, alpha=-1)
    state = torch.baddbmm(state, k.mT, correction)
    return torch.bmm(q, state).view(v.shape).to(v.dtype), state.view(shape)


def delta_scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    chunk: int = 32,
) -> tuple[Tensor, Tensor]:
    """S~ = diag(exp(log_decay_t)) S_{t-1}; S_t = S~ + k_t (beta_t * (v_t - S~^T k_t))^T; o_t = S_t^T q_t.

    Neither queries nor keys are scaled or normalised here; keys of length one and beta in (0, 2) keep the
    state bounded.

    Args:
        q, k, v, log_decay, state, chunk: as in `decay_scan`.
        beta: (B, T, h), one per head, or (B, T, h, V), one per value channel.

    Returns:
        o (B, T, h, V) of the type of v, and the state after the last token, in float32 at least.

    Raises:
        ValueError: shapes that do not fit together.
    """
    check_shapes(q, k, v, log_decay, state, chunk)
    if tuple(beta.shape) not in (tuple(v.shape[:3]), tuple(v.shape)):
        raise ValueError(
            f"expected beta of shape {tuple(v.shape[:3])} or {tuple(v.shape)}, got {tuple(beta.shape)}"
        )
    with torch.autocast(q.device.type, enabled=False):
        start = first_state(k, v, state)
        if not q.shape[0] or not q.shape[1]:
            return v.clone(), start
        if beta.ndim == 4:
            return delta_by_channel(q, k, v, beta, log_decay, start, chunk)
        length = chunk_length(q.shape[1], chunk)
        qs, ks, vs = (in_chunks(x, length, start.dtype) for x in (q, k, v))
        betas = in_chunks(beta.unsqueeze(-1), length, start.dtype)
        decay = None if log_decay is None else chunked_decay(log_decay, length, start.dtype)
        (scores, overlaps), prefix, suffix, total = chunk_products((qs, ks), ks, decay)
        since_start = ks if prefix is None else ks * prefix
        solved = torch.linalg.solve_triangular(
            betas * overlaps.tril(-1),
            betas * torch.cat([vs, since_start], -1),
            upper=False,
            unitriangular=True,
        )
        u, w = solved.split([vs.shape[-1], ks.shape[-1]], -1)
        until_end = ks if suffix is None else ks * suffix
        written, states, end = run_delta_states(u, w, until_end, total, start)
        reads = qs if prefix is None else qs * prefix
        return from_chunks(torch.baddbmm(scores @ written, reads, states), v), end


def delta_product_scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    chunk: int = 32,
) -> tuple[Tensor, Tensor]:
    """Decay once, then n delta steps a token, then read.

    q (B, T, h, K), k (B, T, n, h, K), v (B, T, n, h, V), beta (B, T, n, h), log_decay (B, T, h) or
    (B, T, h, K), state (B, h, K, V) -> o (B, T, h, V), state.
    """
    n = k.shape[2]
    # between the n steps of a token nothing decays and nobody reads
    reads = torch.cat([torch.zeros_like(k[:, :, 1:]), q.unsqueeze(2)], 2).flatten(1, 2)
    if log_decay is not None:
        pause = torch.zeros_like(log_decay).unsqueeze(2).expand(-1, -1, n - 1, *log_decay.shape[2:])
        log_decay = torch.cat([log_decay.unsqueeze(2), pause], 2).flatten(1, 2)
    k, v, beta = k.flatten(1, 2), v.flatten(1, 2), beta.flatten(1, 2)
    o, state = delta_scan(reads, k, v, beta, log_decay, state, chunk=chunk)
    return o.unflatten(1, (-1, n))[:, :, -1], state


def delta_by_channel(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, state: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """Delta rule with a beta per value channel: each channel is a head of width one, with the same keys."""
    b, time, h, value = v.shape

    def per_channel(x: Tensor) -> Tensor:
        return x.repeat_interleave(value, 2)

    o, end = delta_scan(
        per_channel(q),
        per_channel(k),
        v.reshape(b, time, h * value, 1),
        beta.reshape(b, time, h * value),
        None if log_decay is None else per_channel(log_decay),
        state.transpose(2, 3).reshape(b, h * value, -1, 1),
        chunk=chunk,
    )
    return o.view(v.shape), end.view(b, h, value, -1).transpose(2, 3)


def run_delta_states(
    u: Tensor, w: Tensor, k: Tensor, total: Tensor | None, start: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Per chunk V' = U - W S and S' = total * S + K^T V' -> all V', states before each chunk, the last."""
    b, h, key, value = start.shape

    def chunks(x: Tensor) -> tuple[Tensor, ...]:
        return x.view(b, h, -1, *x.shape[1:]).flatten(0, 1).unbind(1)

    state, states, written = start.reshape(b * h, key, value), [], []
    pieces = chunks(u), chunks(w), chunks(k)
    keeps = [None] * len(pieces[0]) if total is None else chunks(total.transpose(1, 2))
    for u_c, w_c, k_c, keep in zip(*pieces, keeps, strict=True):
        states.append(state)
        correction = torch.baddbmm(u_c, w_c, state, alpha=-1)
        written.append(correction)
        state = torch.baddbmm(state if keep is None else keep * state, k_c.transpose(1, 2), correction)
    return (
        torch.stack(written, 1).view(u.shape),
        torch.stack(states, 1).view(-1, key, value),
        state.view(start.shape),
    )


def run_states(writes: Tensor, total: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor]:
    """States at the beginning of each chunk, (B h chunks, K, V), and the one after the last."""
    b, h, key, value = start.shape
    state, states = start, []
    pieces = writes.view(b, h, -1, key, value).unbind(2)
    if total is None:
        for write in pieces:
            states.append(state)
            state = state + write
    else:
        for write, keep in zip(pieces, total.mT.view(b, h, len(pieces), -1, 1).unbind(2), strict=True):
            states.append(state)
            state = torch.addcmul(write, keep, state)
    return torch.stack(states, 2).view(writes.shape), state


def chunk_products(
    reads: tuple[Tensor, ...], k: Tensor, decay: Tensor | None, *, strict: bool = False
) -> tuple[list[Tensor], Tensor | None, Tensor | None, Tensor | None]:
    """Decayed lower triangles of R K^T for each R, and prefix, suffix, total of the decay (None without)."""
    if decay is None:
        return [(r @ k.mT).tril(-1 if strict else 0) for r in reads], None, None, None
    if decay.shape[-1] == 1:  # one decay per head: the products factor out
        ones = torch.ones_like(decay)
        mask, prefix, suffix, total = decayed_products(ones, ones, decay, strict=strict)
        return [(r @ k.mT) * mask for r in reads], prefix, suffix, total
    products = [decayed_products(r, k, decay, strict=strict) for r in reads]
    return [scores for scores, *_ in products], *products[0][1:]


def in_chunks(x: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """(B, T, h, D) -> (B h chunks, length, D), zeros after the end."""
    missing = -x.shape[1] % length
    x = x.transpose(1, 2).to(dtype)
    if missing:
        x = F.pad(x, (0, 0, 0, missing))
    return x.reshape(-1, length, x.shape[-1])


def chunked_decay(log_decay: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """(B, T, h) or (B, T, h, K) -> decay (B h chunks, length, 1 or K), ones after the end."""
    log_decay = log_decay.unsqueeze(-1) if log_decay.ndim == 3 else log_decay
    return in_chunks(log_decay, length, dtype).exp()


def from_chunks(o: Tensor, like: Tensor) -> Tensor:
    """(B h chunks, length, V) -> (B, T, h, V) with the sizes and the type of `like`."""
    b, time, h, value = like.shape
    return o.reshape(b, h, -1, value)[:, :, :time].transpose(1, 2).to(like.dtype)


def first_state(k: Tensor, v: Tensor, state: Tensor | None) -> Tensor:
    """The given state or zeros, in float32 at least: sums in half precision stop growing."""
    dtype = torch.promote_types(torch.promote_types(k.dtype, v.dtype), torch.float32)
    if state is None:
        return k.new_zeros(k.shape[0], k.shape[2], k.shape[3], v.shape[3], dtype=dtype)
    return state.to(dtype)


def chunk_length(time: int, chunk: int) -> int:
    """`chunk`, or for shorter sequences the next power of two."""
    return min(chunk, 1 << (time - 1).bit_length())


def check_shapes(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor | None, chunk: int
) -> None:
    """Raise unless q, k, v, log_decay and state belong together."""
    if q.ndim != 4 or q.shape != k.shape or v.ndim != 4 or v.shape[:3] != k.shape[:3]:
        raise ValueError(
            "expected q and k of shape (B, T, h, K) and v of shape (B, T, h, V), "
            f"got {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    b, time, h, key = k.shape
    if log_decay is not None and tuple(log_decay.shape) not in ((b, time, h), (b, time, h, key)):
        raise ValueError(
            f"expected log_decay of shape {(b, time, h)} or {(b, time, h, key)}, got {tuple(log_decay.shape)}"
        )
    if state is not None and tuple(state.shape) != (b, h, key, v.shape[3]):
        raise ValueError(f"expected a state of shape {(b, h, key, v.shape[3])}, got {tuple(state.shape)}")
    if chunk < 1 or chunk & (chunk - 1):
        raise ValueError(f"chunk must be a power of two, got {chunk}")


def broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether a tensor of `shape` expands to `target`."""
    ends = target[len(target) - len(shape) :]
    return len(shape) <= len(target) and all(size in (1, end) for size, end in zip(shape, ends, strict=True))
