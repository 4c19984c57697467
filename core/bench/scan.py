"""What the linear scan costs beside the fastest thing that touches the same bytes.

The ceiling is `torch.add(a, x, out=h)`: two streams read, one written, into memory that exists already. The
scan has to allocate its result. With glibc as it comes, a fresh result of 64 MiB is mapped from the system
and faulted in page by page, which costs more than the scan itself (about five adds). With

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8589934592

in the environment, glibc keeps freed memory and gives it out again; `core.training.reuse_memory()` does the
same from inside the process. `recurra bench` and the training commands call it.

Forward and backward together move eight streams, the add moves three: a, x, h, then a, h and the gradient
of h, da, dx.
"""

from collections.abc import Callable
from typing import Any

import torch

from core.bench.runner import Case

BATCH, TIME, WIDTH = 8, 4096, 512
ADD = "torch.add(out=)"


def cases() -> list[Case]:
    """Forward, and forward with backward, on real and complex numbers of the same bytes."""
    real, pairs = (BATCH, TIME, WIDTH), (BATCH, TIME, WIDTH // 2)
    sizes, halves = f"B{BATCH} T{TIME} D{WIDTH} float32", f"B{BATCH} T{TIME} D{WIDTH // 2} complex64"
    single, double = torch.float32, torch.complex64
    return [
        Case("linear scan forward", sizes, lambda: forward(real, single), ADD, target=1.6),
        Case("linear scan forward+backward", sizes, lambda: training(real, single), ADD, target=5.0),
        Case("linear scan complex forward", halves, lambda: forward(pairs, double), ADD),
        Case("linear scan complex f+b", halves, lambda: training(pairs, double), ADD),
        Case("linear scan, short", "B8 T512 D256 float32", lambda: training((8, 512, 256), single), ADD),
    ]


Pair = tuple[Callable[[], Any], Callable[[], Any]]


def sample(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(shape, dtype=dtype, generator=generator) / 2
    return a, torch.randn(shape, dtype=dtype, generator=generator)


def forward(shape: tuple[int, int, int], dtype: torch.dtype) -> Pair:
    from core.kernels.linear_scan import linear_scan

    a, x = sample(shape, dtype)
    out = torch.empty_like(x)
    return lambda: linear_scan(a, x), lambda: torch.add(a, x, out=out)


def training(shape: tuple[int, int, int], dtype: torch.dtype) -> Pair:
    from core.kernels.linear_scan import linear_scan

    a, x = (part.requires_grad_() for part in sample(shape, dtype))
    gradient, out = torch.randn_like(x), torch.empty_like(x)
    plain_a, plain_x = a.detach(), x.detach()

    def both() -> Any:
        return torch.autograd.grad(linear_scan(a, x), (a, x), gradient)

    return both, lambda: torch.add(plain_a, plain_x, out=out)
