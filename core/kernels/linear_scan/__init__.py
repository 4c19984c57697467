"""First-order linear recurrence, the scan under every diagonal unit.

    h_t = a_t * h_{t-1} + x_t                          elementwise, real or complex

Backward, also a scan, from right to left, with g_t the gradient of h_t:

    d_t = g_t + conj(a_{t+1}) * d_{t+1}
    dx_t = d_t        da_t = d_t * conj(h_{t-1})        dh_0 = conj(a_1) * d_1

Only a and h are kept for it. The backward pass is an operator with a rule of its own, made of the same
scan, so every order of derivative exists. `definition.py` beside this file says it in six lines
(`linear_scan_ref`, what units run as their sequential mode).
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from core.kernels.choice import beyond_operators, memory_on, version, wants_gradients
from core.kernels.linear_scan import chunked
from core.kernels.linear_scan.definition import linear_scan_ref

__all__ = ["linear_scan", "linear_scan_ref"]


def linear_scan(a: Tensor, x: Tensor, h0: Tensor | None = None) -> Tensor:
    """h_t = a_t * h_{t-1} + x_t for decays a, inputs x (B, T, D) and start h0 (B, D) -> h (B, T, D).

    The state after the last token is `h[:, -1]`. A decay that is constant over time or batch may be given by
    `expand`; it is not copied. Types are promoted as by `a * h0 + x`; half precision is computed in float32
    and rounded once at the end. Forward-mode derivatives and torch.func go through the chunked tensor code.

    Raises:
        ValueError: shapes that do not fit each other, or types that are not floating point.
    """
    if x.ndim != 3 or a.shape != x.shape:
        raise ValueError(
            f"linear_scan expects a and x of one shape (B, T, D), got {tuple(a.shape)} and {tuple(x.shape)}"
        )
    if h0 is not None and h0.shape != (x.shape[0], x.shape[2]):
        raise ValueError(
            f"linear_scan expects h0 of shape {(x.shape[0], x.shape[2])} = (B, D), got {tuple(h0.shape)}"
        )
    dtype = torch.promote_types(a.dtype, x.dtype)
    dtype = dtype if h0 is None else torch.promote_types(dtype, h0.dtype)
    if not (dtype.is_floating_point or dtype.is_complex):
        raise ValueError(f"linear_scan expects floating-point or complex numbers, got {dtype}")
    inner = torch.promote_types(dtype, torch.float32)
    if h0 is None:
        h0 = torch.zeros(x.shape[0], x.shape[2], dtype=inner, device=x.device)
    a, x, h0 = a.to(inner), x.to(inner), h0.to(inner)
    if beyond_operators(a, x, h0):
        return chunked.linear_scan_chunked(a, x, h0).to(dtype)
    if not wants_gradients(a, x, h0) and memory_on([a, x, h0]) and type(x) is type(a) is Tensor:
        # an operator costs as much as a kernel on a GPU, and the first one loads torch's compiler: 160 MB
        return backend(x.device).forward(a, x, h0).to(dtype)
    return scan(a, x, h0).to(dtype)


def backend(device: torch.device) -> ModuleType:
    """The version for a device; each has `forward` and `backward`."""
    return version(__name__, device.type) or chunked


@torch.library.custom_op("recurra::linear_scan", mutates_args=())
def scan(a: torch.Tensor, x: torch.Tensor, h0: torch.Tensor) -> torch.Tensor:
    return backend(x.device).forward(a, x, h0)


@torch.library.custom_op("recurra::linear_scan_backward", mutates_args=())
def scan_backward(
    a: torch.Tensor, h: torch.Tensor, h0: torch.Tensor, grad: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return backend(h.device).backward(a, h, h0, grad)


@scan.register_fake
def scan_shape(a: Tensor, x: Tensor, h0: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@scan_backward.register_fake
def scan_backward_shapes(a: Tensor, h: Tensor, h0: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return h.new_empty(h.shape), h.new_empty(h.shape), h.new_empty(h0.shape)


def keep_scan(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    a, _, h0 = inputs
    ctx.save_for_backward(a, output, h0)


def differentiate_scan(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, h, h0 = ctx.saved_tensors
    return scan_backward(a, h, h0, grad)


def keep_backward(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    a, h, h0, _ = inputs
    ctx.save_for_backward(a, h, h0, output[1])


def differentiate_backward(
    ctx: Any, to_da: Tensor, to_dx: Tensor, to_dh0: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The adjoint of (a, h, h0, g) -> (da, dx, dh0); its scan runs forward, from the cotangent of dh0."""
    a, h, h0, d = ctx.saved_tensors
    if not d.shape[1]:
        return torch.zeros_like(a), torch.zeros_like(h), torch.zeros_like(h0), torch.zeros_like(h)
    v = scan(a, to_dx + to_da * shifted(h0, h), to_dh0)
    to_before = to_da.conj() * d
    to_h = torch.cat([to_before[:, 1:], torch.zeros_like(to_before[:, :1])], 1)
    return shifted(to_dh0, v).conj() * d, to_h, to_before[:, 0], v


def shifted(first: Tensor, h: Tensor) -> Tensor:
    """(first, h_1, ..., h_{T-1}): what each token found."""
    return torch.cat([first[:, None], h[:, :-1]], 1)


scan.register_autograd(differentiate_scan, setup_context=keep_scan)
scan_backward.register_autograd(differentiate_backward, setup_context=keep_backward)
