"""Muon (Jordan et al. 2024): the momentum of a matrix, made orthogonal, is its step.

    M <- m M + (1 - m) G,   U = (1 - m) G + m M
    W <- (1 - lr decay) W - 0.2 lr sqrt(max(rows, columns)) orth(U)

orth(U) = A B^T of the singular value decomposition A S B^T, roughly, by five rounds of a polynomial in U. The
factor gives a step the size that AdamW has (Liu et al. 2025, arXiv 2502.16982), so that rates carry over. The
numbers are those of `torch.optim.Muon`; matrices of one shape go through the rounds together, which on a GPU
is a tenth of the launches.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

ROUND = (3.4445, -4.7750, 2.0315)
"""Of U <- a U + b (U U^T) U + c (U U^T)^2 U, which draws singular values to about one."""
ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Parameters with two axes only."""

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim != 2:
                    raise ValueError(f"Muon takes matrices, got a parameter of shape {tuple(weight.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Change the weights by their gradients."""
        if closure is not None:
            raise ValueError("Muon takes no closure")
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault(weight.shape, []).append(weight)
            for shape, weights in alike.items():
                gradients = torch.stack([weight.grad for weight in weights])  # pyright: ignore[reportArgumentType]
                state = self.state[weights[0]]  # one piece of memory for all that are alike
                memory = state.setdefault("momentum", torch.zeros_like(gradients))
                memory.lerp_(gradients, 1 - group["momentum"])
                steps = orthogonal(gradients.lerp_(memory, group["momentum"])).to(weights[0].dtype)
                rate = 0.2 * group["lr"] * max(shape) ** 0.5
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])  # pyright: ignore[reportPrivateImportUsage]
                torch._foreach_add_(weights, list(steps), alpha=-rate)  # pyright: ignore[reportPrivateImportUsage]


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, R, C) -> of about the same singular vectors, with singular values about one, in bfloat16."""
    a, b, c = ROUND
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.transpose(1, 2) if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x
