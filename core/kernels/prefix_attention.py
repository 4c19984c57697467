"""Attention with one query over every prefix of a sequence, as a recurrence (arXiv 2405.13956).

    m_t = max(m_{t-1}, s_t)
    u_t = u_{t-1} e^{m_{t-1} - m_t} + e^{s_t - m_t}
    w_t = w_{t-1} e^{m_{t-1} - m_t} + e^{s_t - m_t} v_t
    o_t = w_t / u_t

m is only a scale: o does not depend on it, so it takes no gradient except through the final state.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from core.kernels.precision import widen, without_autocast

State = tuple[Tensor, Tensor, Tensor]
"""m (B, h) running maximum, u (B, h) denominator, w (B, h, V) numerator."""

LOWEST = -1e30
"""Stands for -inf where a difference is taken: -inf minus -inf is not a number."""
PIECE = 4096
"""Tokens whose chunks are combined at once, so that the work stays linear in T."""


def no_tokens(v: Tensor) -> State:
    """State before the first token for v (B, T, h, V): weight zero, maximum -inf."""
    batch, _, heads, width = v.shape
    m = v.new_full((batch, heads), -torch.inf)
    return m, v.new_zeros(batch, heads), v.new_zeros(batch, heads, width)


def prefix_attention_step(s: Tensor, v: Tensor, state: State) -> tuple[Tensor, State]:
    """One token: s (B, h), v (B, h, V), state -> o (B, h, V), state."""
    m, u, w = state
    top = torch.maximum(m, s)
    keep, take = (m - top).exp(), (s - top).exp()
    u = u * keep + take
    w = w * keep[..., None] + take[..., None] * v
    return w / u[..., None], (top, u, w)


@without_autocast
def prefix_attention_ref(s: Tensor, v: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """The definition: one token after another. Shapes as in `prefix_attention`."""
    state = no_tokens(v) if state is None else state
    outputs = []
    for s_t, v_t in zip(s.unbind(1), v.unbind(1), strict=True):
        o, state = prefix_attention_step(s_t, v_t, state)
        outputs.append(o)
    return torch.stack(outputs, 1), state


@without_autocast
def prefix_attention(
    s: Tensor, v: Tensor, state: State | None = None, *, chunk: int = 32
) -> tuple[Tensor, State]:
    """Softmax average of v under scores s over every prefix, dense inside chunks.

    Args:
        s: scores (B, T, h), T >= 1.
        v: values (B, T, h, V).
        state: (m, u, w) of the tokens before; None: there were none.
        chunk: tokens of a dense block.

    Returns:
        o (B, T, h, V) and the state after the last token.
    """
    m, u, w = no_tokens(v) if state is None else state
    s, v, m, u, w = widen(s, v, m, u, w)
    s, v = s.transpose(1, 2), v.transpose(1, 2)  # (B, h, T), (B, h, T, V)
    sums = torch.cat([w, u[..., None]], -1)  # (B, h, V+1): numerator and denominator move together
    values = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    outputs = []
    for s_piece, v_piece in zip(s.split(PIECE, 2), values.split(PIECE, 2), strict=True):
        y, m, sums = one_piece(s_piece, v_piece, m, sums, chunk)
        outputs.append(y)
    y = torch.cat(outputs, 2)
    o = y[..., :-1] / y[..., -1:]
    return o.transpose(1, 2), (m, sums[..., -1], sums[..., :-1])


def one_piece(
    s: Tensor, values: Tensor, m: Tensor, sums: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """s (B, h, T), values (B, h, T, V+1), m (B, h), sums (B, h, V+1) -> sums at each token, m, sums."""
    time = s.shape[2]
    with torch.no_grad():
        top = torch.maximum(s.cummax(2).values, m[..., None])
    padding = -time % chunk
    if padding:
        s = F.pad(s, (0, padding), value=-torch.inf)
        values = F.pad(values, (0, 0, 0, padding))
        top = torch.cat([top, top[..., -1:].expand(*top.shape[:2], padding)], 2)
    s, top = s.unflatten(2, (-1, chunk)), top.unflatten(2, (-1, chunk))  # (B, h, C, L)
    values = values.unflatten(2, (-1, chunk))
    future = torch.ones(chunk, chunk, dtype=torch.bool, device=s.device).triu(1)
    # exponents are masked before exp: a masked infinity would still spoil the gradient
    within = (s[..., None, :] - top.clamp(min=LOWEST)[..., :, None]).masked_fill(
        future, -torch.inf
    ).exp() @ values

    ends = torch.cat([m.detach()[..., None], top[..., -1]], 2).clamp(min=LOWEST)  # (B, h, C+1)
    starts = torch.cat([m[..., None], top[..., -1]], 2)  # the given maximum carries a gradient
    blocks = torch.cat([sums[:, :, None], within[..., -1, :]], 2)  # sums of each chunk alone
    future = torch.ones(ends.shape[2], ends.shape[2], dtype=torch.bool, device=s.device).triu(1)
    carry = (starts[..., None, :] - ends[..., :, None]).masked_fill(future, -torch.inf).exp() @ blocks
    before = (ends[..., :-1, None] - top.clamp(min=LOWEST)).exp()[..., None] * carry[..., :-1, None, :]

    y = (within + before).flatten(2, 3)[:, :, :time]
    last = torch.maximum(s.amax((2, 3)), m)
    return y, last, carry[..., -1, :] * (ends[..., -1] - last).exp()[..., None]
