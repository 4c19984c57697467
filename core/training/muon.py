"""Muon whose matrices of one shape are orthogonalised together: a few launches a step in place of a few
hundred, which is what a GPU waits for when matrices are small and many.

    m <- lerp(m, g, 1 - mu);  u = lerp(g, m, mu);  w <- (1 - lr decay) w - lr 0.2 sqrt(max(A, B)) NS_5(u)

The numbers are those of `torch.optim.Muon`, up to the rounding of bfloat16 products.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim._muon import _adjust_lr


def orthogonalised(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """Newton-Schulz iteration on matrices (N, A, B), in bfloat16 (Jordan et al. 2024)."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.transpose(1, 2) if tall else matrices).bfloat16()
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Muon):
    """`torch.optim.Muon` by stacks of one shape; its options and its state are the same."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.move(group)
        return loss

    def move(self, group: dict[str, Any]) -> None:
        """All matrices of a group that have a gradient."""
        weights: list[Tensor] = []
        gradients: list[Tensor] = []
        memories: list[Tensor] = []
        self._init_group(group, weights, gradients, memories)
        if not weights:
            return
        torch._foreach_lerp_(memories, gradients, 1 - group["momentum"])  # pyright: ignore[reportPrivateImportUsage]
        updates = memories
        if group["nesterov"]:
            updates = torch._foreach_lerp(gradients, memories, group["momentum"])  # pyright: ignore[reportPrivateImportUsage]
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore[reportPrivateImportUsage]
        alike: dict[torch.Size, list[int]] = {}
        for number, weight in enumerate(weights):
            alike.setdefault(weight.shape, []).append(number)
        for shape, members in alike.items():
            stack = torch.stack([updates[number] for number in members])
            stack = orthogonalised(stack, group["ns_coefficients"], group["ns_steps"], group["eps"])
            rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], shape)
            chosen = [weights[number] for number in members]
            changes = list(stack.to(chosen[0].dtype).unbind())
            torch._foreach_add_(chosen, changes, alpha=-rate)  # pyright: ignore[reportPrivateImportUsage]
