"""The definition of the recurrences with a matrix state: one token after another.

    decay   S_t = diag(a_t) S_{t-1} + k_t v_t^T
    delta   S~  = diag(a_t) S_{t-1},   S_t = S~ + k_t (beta_t * (v_t - S~^T k_t))^T
    read    o_t = S_t^T q_t,           or before the update: o_t = (S_{t-1} + diag(u) k_t v_t^T)^T q_t

with a_t = exp(log_decay_t), one number per head or one per key channel.
"""

import torch
from torch import Tensor


def decay_step(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor | None, state: Tensor, bonus: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One token: q, k (B, h, K), v (B, h, V), log_decay (B, h) or (B, h, K), state -> o (B, h, V), state."""
    k, v = k.unsqueeze(-1), v.unsqueeze(-2)
    before, state = state, torch.addcmul(decayed(state, log_decay), k, v)
    if bonus is not None:
        return read(torch.addcmul(before, bonus.unsqueeze(-1) * k, v), q), state
    return read(state, q), state


def delta_step(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_decay: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token, as `decay_step`; beta (B, h) or (B, h, V)."""
    state = decayed(state, log_decay)
    beta = beta if beta.ndim == v.ndim else beta.unsqueeze(-1)
    correction = beta * (v - read(state, k))
    state = torch.addcmul(state, k.unsqueeze(-1), correction.unsqueeze(-2))
    return read(state, q), state


def read(state: Tensor, q: Tensor) -> Tensor:
    """S^T q: state (B, h, K, V), q (B, h, K) -> (B, h, V)."""
    return (q.unsqueeze(-2) @ state).squeeze(-2)


def decayed(state: Tensor, log_decay: Tensor | None) -> Tensor:
    """diag(exp(log_decay)) S for a decay per head (B, h) or per key channel (B, h, K)."""
    if log_decay is None:
        return state
    decay = log_decay.exp().unsqueeze(-1)
    return state * (decay.unsqueeze(-1) if decay.ndim == 3 else decay)


def decay_scan_ref(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
    *,
    bonus: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `core.kernels.matrix_scan.decay_scan`, T >= 1; bonus broadcasts to (B, h, K)."""
    state = empty_state(k, v) if state is None else state
    outputs = []
    # unbind, not indexing: the gradient of x[:, t] is as large as x at every step
    decays = [None] * q.shape[1] if log_decay is None else log_decay.unbind(1)
    for q_t, k_t, v_t, g_t in zip(q.unbind(1), k.unbind(1), v.unbind(1), decays, strict=True):
        o, state = decay_step(q_t, k_t, v_t, g_t, state, bonus)
        outputs.append(o)
    return torch.stack(outputs, 1), state


def delta_scan_ref(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    log_decay: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `core.kernels.matrix_scan.delta_scan`, T >= 1."""
    state = empty_state(k, v) if state is None else state
    outputs = []
    decays = [None] * q.shape[1] if log_decay is None else log_decay.unbind(1)
    for q_t, k_t, v_t, b_t, g_t in zip(
        q.unbind(1), k.unbind(1), v.unbind(1), beta.unbind(1), decays, strict=True
    ):
        o, state = delta_step(q_t, k_t, v_t, b_t, g_t, state)
        outputs.append(o)
    return torch.stack(outputs, 1), state


def empty_state(k: Tensor, v: Tensor) -> Tensor:
    """Zeros (B, h, K, V) for k (B, ..., h, K) and v (B, ..., h, V)."""
    return k.new_zeros(k.shape[0], k.shape[-2], k.shape[-1], v.shape[-1])
