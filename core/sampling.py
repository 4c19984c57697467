"""Continue sequences of tokens one by one, in memory that does not grow with them."""

from typing import Any, Protocol

import torch
from torch import Tensor

from core.errors import ConfigError


class Steps(Protocol):
    """What generates: `step(tokens (B,), state) -> logits (B, V), state`, with None as the first state."""

    def step(self, x: Tensor, state: Any, /) -> tuple[Tensor, Any]: ...


@torch.no_grad()
def generate(
    model: Steps,
    prompt: Tensor,
    count: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    state: Any = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Any]:
    """Read a prompt, then draw `count` tokens from what the model expects next.

    Args:
        model: has a `step` for tokens, see `Steps`.
        prompt: (B, T) integers, T >= 1.
        count: tokens to draw for each row.
        temperature: of the softmax; 0 takes the likeliest token.
        top_k: draw among so many likeliest tokens only; None: among all.
        state: to go on from; None: the first.
        generator: where chance comes from; None: torch's own.

    Returns:
        tokens (B, count) and the state before the last of them is read, so that
        `generate(model, tokens[:, -1:], more, state=state)` goes on.

    Raises:
        ConfigError: a temperature below zero, a `top_k` or `count` out of range.
        ValueError: a prompt of another shape, or of numbers that are no integers.
    """
    if not 0 <= temperature < float("inf") or count < 0 or (top_k is not None and top_k < 1):
        raise ConfigError(
            "generate takes temperature >= 0, count >= 0 and top_k >= 1 or None, "
            f"got {temperature}, {count} and {top_k}"
        )
    if prompt.ndim != 2 or not prompt.shape[1] or prompt.is_floating_point():
        raise ValueError(
            f"a prompt is (B, T) integers with T >= 1, got {tuple(prompt.shape)} of {prompt.dtype}"
        )
    drawn = prompt.new_empty(len(prompt), count)
    for token in prompt[:, :-1].unbind(1):
        _, state = model.step(token, state)
    token = prompt[:, -1]
    for place in range(count):
        logits, state = model.step(token, state)
        token = drawn[:, place] = choose(logits.float(), temperature, top_k, generator)
    return drawn, state


def choose(
    logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None
) -> Tensor:
    """logits (B, V) -> tokens (B,)."""
    if temperature == 0:
        return logits.argmax(-1)
    if top_k is not None and top_k < logits.shape[-1]:
        least = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator).squeeze(-1)
