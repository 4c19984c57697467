"""A nonlinear recurrence solved for all tokens at once by Newton's method.

    h_t = f(h_{t-1}, gates_t)   for all t together:   F_t(h) = h_t - f(h_{t-1}) = 0
    J_t = df/dh (h_{t-1}),  r_t = f(h_{t-1}) - h_t,  d_t = J_t d_{t-1} + r_t,  h <- h + d

(Danieli et al. 2025, arXiv 2510.21450; Lim et al. 2024, arXiv 2309.12252.) The solve for d is a linear scan.
It is cheap where a channel sees only itself: J_t is a number per channel, or an n x n block if the state
consists of n tensors. The start is h_t = f(0, gates_t); each iteration makes at least one
more token exact, and a well-behaved cell needs three to five for a whole sequence.

Iterations stop when the last change says that the next one, about its square, is below rounding. A row that
has not settled after `ITERATIONS`, or that holds a number which is not finite (it diverged, or a NaN came
in), is computed again by the loop of steps: the answer is that of the loop in every case.

Backward is one transposed scan at the solution, whatever the iterations did: with g_t the gradient of h_t,
delta_t = g_t + J_{t+1}^T delta_{t+1}, and delta_t goes through a single application of f to all tokens.
Second derivatives go through the loop of steps.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from core.kernels.block_scan import block_scan
from core.kernels.choice import beyond_operators
from core.kernels.linear_scan import linear_scan
from core.kernels.precision import widen

States = tuple[Tensor, ...]
Weights = tuple[Tensor | None, ...]
Step = Callable[[Tensor, States, Weights], tuple[Tensor, States]]

ITERATIONS = 24
"""After so many the loop of steps is the better way."""
SETTLED = {torch.float32: 1e-5, torch.float64: 1e-9}
"""Change of a state, relative to 1 + its size, below which the next change is lost in rounding."""


def newton(step: Step, gates: Tensor, state: States, weights: Weights) -> States:
    """All states of h_t = step(gates_t, h_{t-1}, weights).

    Args:
        step: the step of a `core.kernels.gated_loop.Cell` in which a channel depends on the same channel
            of each state only; it must take tokens of any leading shape.
        gates: projected input (B, T, G), T >= 1.
        state: n tensors (B, D) before the first token.
        weights: what the step needs beside; gradients flow to them.

    Returns:
        n tensors (B, T, D), in float32 at least; a state's value after the last token is its `[:, -1]`.

    """
    inputs = widen(gates, *state, *weights)
    with torch.autocast(gates.device.type, enabled=False):
        if traced() or beyond_operators(*present(inputs)):
            return loop(step, inputs[0], inputs[1 : 1 + len(state)], inputs[1 + len(state) :])
        return Trajectory.apply(step, len(state), *inputs)  # pyright: ignore[reportReturnType]


class Trajectory(torch.autograd.Function):
    """The solution, and its gradient by the implicit function theorem."""

    @staticmethod
    def forward(ctx: Any, step: Step, states: int, gates: Tensor, *rest: Tensor | None) -> Any:  # pyright: ignore
        state: Any = rest[:states]
        h = solve(step, gates, state, rest[states:])
        ctx.step, ctx.states = step, states
        ctx.save_for_backward(gates, *rest, *h)
        return h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:  # pyright: ignore
        n, saved = ctx.states, ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, None, *loop_gradients(ctx.step, n, saved[: len(saved) - n], grads)
        h, rest = saved[len(saved) - n :], saved[1 : len(saved) - n]
        gates = leaf(saved[0])
        weights = [part if part is None else leaf(part) for part in rest[n:]]
        before = tuple(map(leaf, shifted(rest[:n], h)))
        with torch.enable_grad():
            after = step_all(ctx.step, gates, before, tuple(weights))
        blocks = jacobian(after, before, keep=True)
        delta = solve_linear(blocks, torch.stack(grads, 2), reverse=True).unbind(2)
        leaves = [gates, *before, *present(tuple(weights))]
        found = torch.autograd.grad(after, leaves, delta, allow_unused=True)
        dgates, dbefore, others = found[0], found[1 : 1 + n], iter(found[1 + n :])
        dstate = [None if part is None else part[:, 0] for part in dbefore]
        return None, None, dgates, *dstate, *(None if part is None else next(others) for part in weights)


def loop_gradients(
    step: Step, states: int, given: tuple[Tensor | None, ...], grads: tuple[Tensor, ...]
) -> list[Tensor | None]:
    """Gradients that can be differentiated again, through the loop of steps."""
    # views: if one input was computed from another, its gradient must not flow on into that one here
    seen: list[Any] = [part if part is None else part.view_as(part) for part in given]
    h = loop(step, seen[0], tuple(seen[1 : 1 + states]), tuple(seen[1 + states :]))
    wanted = [part for part in seen if part is not None and part.requires_grad]
    found = iter(torch.autograd.grad(h, wanted, grads, create_graph=True, allow_unused=True))
    return [next(found) if part is not None and part.requires_grad else None for part in seen]


@torch.no_grad()
def solve(step: Step, gates: Tensor, state: States, weights: Weights) -> States:
    """The states (B, T, D) without a graph."""
    nothing = tuple(part.new_zeros(()).expand(*gates.shape[:2], part.shape[-1]) for part in state)
    h = step_all(step, gates, nothing, weights)
    unsettled = torch.ones(gates.shape[0], dtype=torch.bool, device=gates.device)
    for _ in range(min(ITERATIONS, gates.shape[1] + 1)):  # all are exact after T, one more to see it
        before = shifted(state, h)
        after, blocks = linearised(step, gates, before, weights)
        change = solve_linear(blocks, torch.stack(after, 2) - torch.stack(h, 2))
        h = tuple(part + move for part, move in zip(h, change.unbind(2), strict=True))
        relative = (change.abs() / (1 + torch.stack(h, 2).abs())).flatten(1).amax(1)
        unsettled = ~(relative <= SETTLED[gates.dtype])
        # rows that are no longer finite never settle and wait for the loop
        if not (unsettled & relative.isfinite()).any():
            break
    if unsettled.any():
        rows = unsettled.nonzero().squeeze(1)
        again = loop(step, gates[rows], tuple(part[rows] for part in state), weights)
        h = tuple(part.index_copy(0, rows, own) for part, own in zip(h, again, strict=True))
    return h


def loop(step: Step, gates: Tensor, state: States, weights: Weights) -> States:
    """The definition: one step after another -> all states (B, T, D)."""
    rows = []
    for token in gates.unbind(1):
        _, state = step(token, state, weights)
        rows.append(state)
    return tuple(torch.stack(part, 1) for part in zip(*rows, strict=True))


def step_all(step: Step, gates: Tensor, before: States, weights: Weights) -> States:
    """One step of every token from the given states."""
    return step(gates, before, weights)[1]


def linearised(step: Step, gates: Tensor, before: States, weights: Weights) -> tuple[States, Tensor]:
    """f and its Jacobian blocks at the given states, without a graph."""
    with torch.enable_grad():
        before = tuple(map(leaf, before))
        after = step_all(step, gates.detach(), before, weights)
    blocks = jacobian(after, before)
    return tuple(part.detach() for part in after), blocks


def jacobian(after: States, before: States, *, keep: bool = False, create_graph: bool = False) -> Tensor:
    """d after_i / d before_j per channel, (B, T, n, n, D), from states (B, T, D) that came of one another.

    Channels do not see each other, so the gradient of a sum over all of them is the diagonal.
    """
    n = len(after)
    rows = [
        torch.autograd.grad(
            part,
            before,
            torch.ones_like(part),
            retain_graph=keep or create_graph or i < n - 1,
            create_graph=create_graph,
            materialize_grads=True,
        )
        for i, part in enumerate(after)
    ]
    return torch.stack([torch.stack(row, 2) for row in rows], 2)


def solve_linear(blocks: Tensor, x: Tensor, *, reverse: bool = False) -> Tensor:
    """d_t = J_t d_{t-1} + x_t, or its adjoint: blocks (B, T, n, n, D), x (B, T, n, D) -> d (B, T, n, D)."""
    if x.shape[2] > 1:
        return block_scan(blocks, x, reverse=reverse)
    a, x = blocks[:, :, 0, 0], x[:, :, 0]
    if reverse:
        later = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1)
        return linear_scan(later.flip(1), x.flip(1)).flip(1).unsqueeze(2)
    return linear_scan(a, x).unsqueeze(2)


def traced() -> bool:
    """Whether a graph is being recorded, in which the number of iterations could not depend on numbers."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def present(parts: tuple[Any, ...]) -> list[Tensor]:
    return [part for part in parts if part is not None]


def leaf(part: Tensor) -> Tensor:
    """The same numbers as the beginning of a graph."""
    return part.detach().requires_grad_()


def shifted(first: States, h: States) -> States:
    """What each token found: the first state, then the states of all tokens but the last."""
    return tuple(torch.cat([start[:, None], part[:, :-1]], 1) for start, part in zip(first, h, strict=True))
