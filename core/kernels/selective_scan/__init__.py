"""Selective scan, the recurrence of Mamba (Gu and Dao 2023, arXiv 2312.00752).

    s_t = softplus(delta_t)                                 step size
    h_t = exp(s_t A) * h_{t-1} + s_t u_t B_t                per channel d and state n
    y_t = sum_n C_t h_t + D u_t                             twice the real part of the sum when A is complex
    y_t = y_t silu(z_t)                                     where a gate z is given

Fused over n: the states (B, T, D, N) are never held. Backward keeps one state in sixteen tokens and computes
the others again. `definition.py` says what is computed; second derivatives go through it or, on a GPU,
through the pieces.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from core.kernels.choice import beyond_operators, memory_on, recording, version, wants_gradients
from core.kernels.linear_scan import linear_scan
from core.kernels.selective_scan.definition import selective_scan_loop, selective_update

PIECE = 64  # tokens whose states the tensor version holds at once


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y (B, T, D) of the type of u, and the state (B, D, N) after the last token, in float32 at least.

    Args:
        u, delta: (B, T, D); delta is the step size before its softplus.
        A: (D, N), real or complex.
        B, C: (B, T, N), or grouped (B, T, G, N) where channel d reads group d * G // D, or constant (D, N).
        D: (D,) skip; z: (B, T, D) gate.
        state: (B, D, N) before the first token; None is zeros.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    B, C = (part.unsqueeze(2) if part.ndim == 3 else part for part in (B, C))
    check_shapes(u, delta, A, B, C, state)
    real = torch.float64 if u.dtype == torch.float64 or delta.dtype == torch.float64 else torch.float32
    inner = torch.promote_types(real, torch.complex64) if A.is_complex() else real
    start = u.new_zeros(u.shape[0], *A.shape, dtype=inner) if state is None else state.to(inner)
    with torch.autocast(u.device.type, enabled=False):
        y, end = u.to(real), start
        if u.shape[1]:
            y, end = recurrence(y, delta.to(real), A.to(inner), B.to(inner), C.to(inner), start)
        if D is not None:
            y = torch.addcmul(y, u.to(real), D.to(real))
        if z is not None:
            y = y * F.silu(z.to(real))
    return y.to(u.dtype), end


def selective_step(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token: u, delta (B, D); A (D, N); B, C (B, N) or (B, G, N); state (B, D, N) -> y (B, D), state.

    All of the type of the state. Without gradients on a CPU it is one compiled call.
    """
    B, C = (part.unsqueeze(1) if part.ndim == 2 else part for part in (B, C))
    arguments = (u, delta, A, B, C, state)
    plain = not A.is_complex() and B.shape == C.shape and not wants_gradients(*arguments)
    if plain and memory_on(list(arguments)) == "cpu":
        return compiled().update(*arguments)
    B, C = (
        part if part.shape[1] == 1 else part.repeat_interleave(u.shape[1] // part.shape[1], 1)
        for part in (B, C)
    )
    return selective_update(u, delta, A, B, C, state)


def recurrence(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """y without skip and gate; all of one precision, B and C of 4 or 2 dimensions."""
    if u.device.type != "cpu" or beyond_operators(u, delta, A, B, C, state):
        return scan_by_pieces(u, delta, A, B, C, state)
    B, C = (part[None, None] if part.ndim == 2 else part for part in (B, C))  # (1, 1, D, N)
    inputs = (u, delta, A, B, C, state)
    keep = wants_gradients(*inputs)
    # without an operator where none is needed: the first one loads torch's compiler, 160 MB
    plain = not keep and memory_on(list(inputs)) == "cpu" and all(type(part) is Tensor for part in inputs)
    y, end, _ = (compiled().forward if plain else fused)(*inputs, keep)
    return (2 * y if A.is_complex() else y), end


def compiled() -> Any:
    """The loops of `core.kernels.selective_scan.cpu`; numba is loaded on first use."""
    return version(__name__, "cpu")


def check_shapes(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor | None) -> None:
    if u.ndim != 3 or delta.shape != u.shape:
        raise ValueError(
            f"selective_scan expects u and delta of one shape (B, T, D), got {tuple(u.shape)} "
            f"and {tuple(delta.shape)}"
        )
    batch, time, channels = u.shape
    if A.ndim != 2 or A.shape[0] != channels:
        raise ValueError(f"selective_scan expects A of shape ({channels}, N), got {tuple(A.shape)}")
    states = A.shape[1]
    for name, part in (("B", B), ("C", C)):
        constant = part.shape == A.shape
        grouped = part.ndim == 4 and part.shape[:2] == (batch, time) and part.shape[3] == states
        if not constant and not (grouped and part.shape[2] and channels % part.shape[2] == 0):
            raise ValueError(
                f"selective_scan expects {name} of shape ({batch}, {time}, G, {states}) with G dividing "
                f"{channels}, or ({channels}, {states}); got {tuple(part.shape)}"
            )
    if B.ndim == C.ndim == 4 and max(B.shape[2], C.shape[2]) % min(B.shape[2], C.shape[2]):
        raise ValueError(f"the groups of B and C do not nest: {B.shape[2]} and {C.shape[2]}")
    if state is not None and state.shape != (batch, channels, states):
        raise ValueError(
            f"selective_scan expects a state of shape {(batch, channels, states)}, got {tuple(state.shape)}"
        )


def scan_by_pieces(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Any device: the states of `PIECE` tokens at a time through the linear scan, again in backward."""

    def piece(u: Tensor, delta: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        step = F.softplus(delta)
        decay = torch.exp(step.unsqueeze(-1) * A)  # (B, L, D, N)
        write = (step * u).unsqueeze(-1) * spread(B, u.shape[2])
        h = linear_scan(decay.flatten(2), write.flatten(2), state.flatten(1)).view(decay.shape)
        y = (h * spread(C, u.shape[2])).sum(-1)
        return (2 * y.real if y.is_complex() else y), h[:, -1]

    outputs = []
    for left in range(0, u.shape[1], PIECE):
        cut = slice(left, left + PIECE)
        b, c = (part if part.ndim == 2 else part[:, cut] for part in (B, C))
        arguments = (u[:, cut], delta[:, cut], b, c, state)
        if torch.is_grad_enabled() and u.shape[1] > PIECE:
            y, state = checkpoint(piece, *arguments, use_reentrant=False)  # pyright: ignore[reportGeneralTypeIssues]
        else:
            y, state = piece(*arguments)
        outputs.append(y)
    return torch.cat(outputs, 1), state.clone()  # not a view that keeps the states of a piece alive


def spread(part: Tensor, channels: int) -> Tensor:
    """B or C of a piece as (B, L, D, N), or (D, N) where it is constant."""
    return part if part.ndim == 2 else part.repeat_interleave(channels // part.shape[2], 2)


@torch.library.custom_op("recurra::selective_scan", mutates_args=(), device_types="cpu")
def fused(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    state: torch.Tensor,
    keep: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return compiled().forward(u, delta, A, B, C, state, keep)


@torch.library.custom_op("recurra::selective_scan_backward", mutates_args=(), device_types="cpu")
def fused_backward(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    marks: torch.Tensor,
    gy: torch.Tensor,
    gh: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return compiled().backward(u, delta, A, B, C, marks, gy, gh)


@fused.register_fake
def fused_shapes(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor]:
    from core.kernels.selective_scan.cpu import EVERY

    pieces = -(-u.shape[1] // EVERY) if keep else 0
    marks = A.new_empty(u.shape[0], pieces, A.shape[1], A.shape[0])
    return u.new_empty(u.shape), turned(state), marks


@fused_backward.register_fake
def fused_backward_shapes(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, marks: Tensor, gy: Tensor, gh: Tensor
) -> tuple[Tensor, ...]:
    return (*(part.new_empty(part.shape) for part in (u, delta, A, B, C)), turned(gh))


def turned(state: Tensor) -> Tensor:
    """An empty (B, D, N) that lies in memory as (B, N, D)."""
    return state.new_empty(state.shape[0], state.shape[2], state.shape[1]).transpose(1, 2)


def keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6], output[2])


def differentiate(ctx: Any, gy: Tensor, gh: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    u, delta, A, B, C, state, marks = ctx.saved_tensors
    if torch.is_grad_enabled() and not recording():  # somebody asks for second derivatives
        return (*plain_gradients((u, delta, A, B, C, state), ctx.needs_input_grad[:6], (gy, gh)), None)
    return (*fused_backward(u, delta, A, B, C, marks, gy, gh), None)


def plain_gradients(
    inputs: tuple[Tensor, ...], needed: tuple[bool, ...], cotangents: tuple[Tensor, Tensor]
) -> list[Tensor | None]:
    """Gradients that can be differentiated again, through the definition."""
    # views: if one input was computed from another, its gradient must not flow on into that one here
    views = [part.view_as(part) for part in inputs]
    u, delta, A, B, C, state = views
    B, C = (part[0, 0] if part.shape[2] == len(A) and part.shape[:2] == (1, 1) else part for part in (B, C))
    y, end = selective_scan_loop(u, delta, A, B, C, state)
    y = y / 2 if A.is_complex() else y  # the operator leaves the factor of conjugate pairs to its caller
    wanted = [part for part, need in zip(views, needed, strict=True) if need]
    found = iter(torch.autograd.grad((y, end), wanted, cotangents, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]


fused.register_autograd(differentiate, setup_context=keep_inputs)
