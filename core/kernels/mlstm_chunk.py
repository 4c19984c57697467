"""mLSTM: matrix memory with exponential input gates and a running maximum (arXiv 2405.04517).

    m_t = max(logsigmoid(f_t) + m_{t-1}, i_t)
    F = exp(logsigmoid(f_t) + m_{t-1} - m_t),  I = exp(i_t - m_t),  k^ = k_t / sqrt(K)
    C_t = F C_{t-1} + I k^ v_t^T
    n_t = F n_{t-1} + I k^
    h_t = C_t^T q_t / (max(|n_t . q_t|, exp(-m_t)) + 1e-6)

One convention everywhere: the key carries the scale, C and n are scaled by exp(-m).
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from core.kernels.matrix_scan import decay_scan
from core.kernels.precision import widen, without_autocast

State = tuple[Tensor, Tensor, Tensor]
"""C (B, h, K, V), n (B, h, K), m (B, h)."""

EPSILON = 1e-6
LOWEST = -1e30
"""Stands for -inf where a difference is taken."""
HIGHEST = 80.0
"""Largest exponent of exp(-m): beyond it the output is zero anyway, and exp must stay finite."""


def empty_memory(k: Tensor, v: Tensor) -> State:
    """Zeros for k (B, T, h, K), v (B, T, h, V), as the published step form starts."""
    batch, _, heads, width = k.shape
    return (
        k.new_zeros(batch, heads, width, v.shape[-1]),
        k.new_zeros(batch, heads, width),
        k.new_zeros(batch, heads),
    )


def mlstm_step(q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State) -> tuple[Tensor, State]:
    """One token: q, k (B, h, K), v (B, h, V), pre-activations i, f (B, h) -> h (B, h, V), state."""
    memory, n, m = state
    held = logsigmoid(f) + m
    m = torch.maximum(held, i)
    keep, take = (held - m).exp(), (i - m).exp()
    k = k * (take * k.shape[-1] ** -0.5)[..., None]
    memory = memory * keep[..., None, None] + k[..., None] * v[..., None, :]
    n = n * keep[..., None] + k
    read = (q[..., None, :] @ memory).squeeze(-2)
    weight = torch.maximum((q * n).sum(-1).abs(), (-m).clamp(max=HIGHEST).exp()) + EPSILON
    return read / weight[..., None], (memory, n, m)


@without_autocast
def mlstm_ref(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State | None = None
) -> tuple[Tensor, State]:
    """The definition: one token after another. Shapes as in `mlstm_chunkwise`."""
    memory = empty_memory(k, v) if state is None else state
    q, k, v, i, f, *memory = widen(q, k, v, i, f, *memory)
    now = (memory[0], memory[1], memory[2])
    outputs = []
    for token in zip(q.unbind(1), k.unbind(1), v.unbind(1), i.unbind(1), f.unbind(1), strict=True):
        h, now = mlstm_step(*token, now)
        outputs.append(h)
    return torch.stack(outputs, 1), now


@without_autocast
def mlstm_chunkwise(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: State | None = None, *, chunk: int = 64
) -> tuple[Tensor, State]:
    """The same in dense blocks: inside a chunk D_ts = exp(G_t - G_s + i_s - m_t), G the summed log gates.

    Args:
        q, k: (B, T, h, K), T >= 1; k without its scale.
        v: (B, T, h, V).
        i, f: gates before exp and sigmoid (B, T, h).
        state: (C, n, m) of the tokens before; None: zeros.
        chunk: tokens of a dense block.

    Returns:
        h (B, T, h, V) and the state after the last token.
    """
    memory, n, m = empty_memory(k, v) if state is None else state
    q, k, v, i, f, memory, n, m = widen(q, k, v, i, f, memory, n, m)
    time, width = q.shape[1], q.shape[-1]
    chunk = min(chunk, time)
    values = torch.cat([v, torch.ones_like(v[..., :1])], -1)  # the last column accumulates n
    q, values = blocks(q, chunk), blocks(values, chunk)
    k = blocks(k * width**-0.5, chunk)
    i = blocks(i, chunk, fill=-torch.inf)  # padding writes nothing
    summed = blocks(logsigmoid(f), chunk).cumsum(-1)  # (B, h, C, L), and forgets nothing
    total = summed[..., -1]

    m = m.clamp(min=LOWEST)
    marks = [m]  # maximum before each chunk, then after the last
    score = i - summed
    peak = score.cummax(-1).values
    for total_c, peak_c in zip(total.unbind(-1), peak[..., -1].unbind(-1), strict=True):
        marks.append(total_c + torch.maximum(marks[-1], peak_c))
    mark = torch.stack(marks, -1)
    top = torch.maximum(mark[..., :-1, None], peak)  # m_t - G_t

    # C, n and the weights are scaled by a maximum without gradient: only epsilon and the final state see it
    fixed, start = top.detach(), mark.detach()
    future = torch.ones(chunk, chunk, dtype=torch.bool, device=q.device).triu(1)
    weights = (score[..., None, :] - fixed[..., :, None]).masked_fill(future, -torch.inf).exp()
    inside = ((q @ k.mT) * weights) @ values

    write = (score + (total - start[..., 1:])[..., None]).exp()
    written = (k * write[..., None]).mT @ values  # (B, h, C, K, V+1)
    keep = (total + start[..., :-1] - start[..., 1:]).exp()[..., None, None]
    carried = torch.cat([memory, n[..., None]], -1) * (m - m.detach()).exp()[..., None, None]
    states = []
    for keep_c, written_c in zip(keep.unbind(2), written.unbind(2), strict=True):
        states.append(carried)
        carried = keep_c * carried + written_c
    before = (q @ torch.stack(states, 2)) * (start[..., :-1, None] - fixed).exp()[..., None]

    y = inside + before  # numerator and n . q, both times exp(-G_t - fixed)
    level = (-fixed - summed).clamp(max=HIGHEST).exp()
    weight = torch.maximum(y[..., -1].abs(), level) + EPSILON * (top - fixed).exp()
    h = (y[..., :-1] / weight[..., None]).flatten(2, 3)[:, :, :time].transpose(1, 2)
    carried = carried * (start[..., -1] - mark[..., -1]).exp()[..., None, None]
    return h, (carried[..., :-1], carried[..., -1], mark[..., -1])


def mlstm_sigmoid(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    state: tuple[Tensor, Tensor] | None = None,
    *,
    normalise: bool = True,
    chunk: int = 64,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """mLSTM with a sigmoid input gate, which needs no running maximum (arXiv 2503.14376).

        C_t = sigmoid(f) C_{t-1} + sigmoid(i) k^ v^T,  n_t alike
        h_t = C_t^T q_t / (max(|n_t . q_t|, 1) + 1e-6), or C_t^T q_t without normaliser

    Shapes as in `mlstm_chunkwise`; state (C, n).
    """
    memory, n = empty_memory(k, v)[:2] if state is None else state
    q, k, v, i, f, memory, n = widen(q, k, v, i, f, memory, n)
    k = k * (i.sigmoid() * k.shape[-1] ** -0.5)[..., None]
    values = torch.cat([v, torch.ones_like(v[..., :1])], -1)  # the last column is n
    y, end = decay_scan(q, k, values, logsigmoid(f), torch.cat([memory, n[..., None]], -1), chunk=chunk)
    h = y[..., :-1]
    if normalise:
        h = h / (y[..., -1:].abs().clamp(min=1) + EPSILON)
    return h, (end[..., :-1], end[..., -1])


def mlstm_sigmoid_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    f: Tensor,
    state: tuple[Tensor, Tensor],
    normalise: bool = True,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One token: q, k (B, h, K), v (B, h, V), pre-activations i, f (B, h) -> h (B, h, V), state."""
    memory, n = state
    keep = f.sigmoid()[..., None]
    k = k * (i.sigmoid() * k.shape[-1] ** -0.5)[..., None]
    memory = memory * keep[..., None] + k[..., None] * v[..., None, :]
    n = n * keep + k
    h = (q[..., None, :] @ memory).squeeze(-2)
    if normalise:
        h = h / ((q * n).sum(-1, keepdim=True).abs().clamp(min=1) + EPSILON)
    return h, (memory, n)


def blocks(x: Tensor, chunk: int, fill: float = 0.0) -> Tensor:
    """(B, T, h, ...) -> (B, h, C, L, ...), padded at the end."""
    padding = -x.shape[1] % chunk
    if padding:
        x = pad(x, (0, 0) * (x.ndim - 2) + (0, padding), value=fill)
    return x.transpose(1, 2).unflatten(2, (-1, chunk))
