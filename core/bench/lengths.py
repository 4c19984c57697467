"""Rows of different length beside the same batch run as if padding counted: what lengths cost or save."""

from collections.abc import Callable
from typing import Any

from core import registry
from core.bench.runner import Case

ROWS = 32
SHAPES = ((96, 64, 1.15), (256, 128, 1.0))
"""T, width, and the ratio to stay under."""


def cases() -> list[Case]:
    """Forward and backward of every causal unit; 65 and 59 % of the padded tokens are valid."""
    return [
        Case(
            f"{name} lengths",
            f"B {ROWS}, T {time}, D {width}, float32",
            lambda name=name, time=time, width=width: beside_padding(name, time, width),
            "padded",
            target,
            repeats=9,
        )
        for time, width, target in SHAPES
        for name in registry.names()
    ]


def beside_padding(name: str, time: int, width: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The same stack and tokens, with 28 different lengths and without."""
    import torch

    import core

    generator = torch.Generator().manual_seed(0)
    net = core.stack(name, width)
    x = torch.randn(ROWS, time, width, generator=generator).requires_grad_()
    lengths = some_lengths(time)

    def trained(**options: Any) -> Callable[[], None]:
        def call() -> None:
            net(x, **options)[0].sum().backward()

        return call

    return trained(lengths=lengths), trained()


def some_lengths(time: int) -> Any:
    """32 lengths in 0.3 to 1 of T, 28 of them different, in no order; the longest is T."""
    import torch

    share = 0.65 if time < 128 else 0.59
    different = torch.linspace(2 * share - 1, 1, 28).mul(time).round().long()
    lengths = torch.cat([different, different[[3, 10, 17, 24]]])
    return lengths[torch.randperm(len(lengths), generator=torch.Generator().manual_seed(1))]
