"""A stack of GRU layers for one sequence at a time, outside of torch: what a live system calls.

The equations are those of `core.units.gated.gru` (reset after). Calling torch costs microseconds per
operator and a recurrent layer has several per token, so here a whole stack over a whole window is one
compiled call. Layers run one after another: the recurrent matrix of a layer of 64 (48 KB) then stays in the
first-level cache over all its tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.kernels.jit import compiled
from core.kernels.vector_math import sigmoid32, tanh32
from core.streaming.products import add_product, array


@compiled
def gru_gates(projected: Any, recurrent: Any, h: Any) -> None:
    """One step: W x + b_i (3H,), U h + b_h (3H,) (overwritten), h (H,) in place."""
    width = h.shape[0]
    for i in range(2 * width):
        recurrent[i] = sigmoid32(projected[i] + recurrent[i])
    for i in range(width):
        n = tanh32(projected[2 * width + i] + recurrent[i] * recurrent[2 * width + i])
        h[i] = n + recurrent[width + i] * (h[i] - n)


@compiled
def gru_layers(weights: Any, inputs: int, width: int, layers: int, x: Any, h: Any, work: Any) -> None:
    """All layers over a window: x (T, max(I, H)) becomes the outputs (T, H), h (L, H) the final state.

    weights: packed by `pack`; work: (T + 1, 3 H) scratch.
    """
    time = x.shape[0]
    gates = 3 * width
    at = 0
    for layer in range(layers):
        size = inputs if layer == 0 else width
        w = weights[at : at + size * gates].reshape(size, gates)
        at += size * gates
        u = weights[at : at + width * gates].reshape(width, gates)
        at += width * gates
        b_i = weights[at : at + gates]
        b_h = weights[at + gates : at + 2 * gates]
        at += 2 * gates
        for t in range(time):
            work[t] = b_i
            add_product(x[t, :size], w, work[t])
        recurrent = work[time]
        for t in range(time):
            recurrent[:] = b_h
            add_product(h[layer], u, recurrent)
            gru_gates(work[t], recurrent, h[layer])
            x[t, :width] = h[layer]


def pack(stack: Any) -> np.ndarray:
    """The weights of a `core.stack("gru", ...)` in one float32 array, layer by layer W^T, U^T, b_i, b_h.

    Raises:
        ValueError: not a one-directional stack of reset-after GRUs without residuals.
    """
    from core.units.gated.gru import GRU

    units = list(stack.units)
    fits = all(isinstance(unit, GRU) and (unit.reset, unit.update) == ("after", "keep") for unit in units)
    if not fits or stack.directions != 1 or stack.residual:
        raise ValueError("the compiled stream takes one-directional stacks of reset-after GRUs, no residuals")
    return packed([{name: array(value) for name, value in unit.named_parameters()} for unit in units])


def packed(layers: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """Layers {"weight_ih": (3 H, I), "weight_hh", "bias_ih", "bias_hh"} as `pack` lays them; no bias is 0."""
    parts = []
    for layer in layers:
        rows = len(layer["weight_hh"])
        parts += [layer["weight_ih"].T, layer["weight_hh"].T]
        parts += [layer.get(name, np.zeros(rows)) for name in ("bias_ih", "bias_hh")]
    return np.concatenate([part.ravel() for part in parts]).astype(np.float32)


class GRUStream:
    """A stack of GRUs for windows (T, I) and single tokens (I,) of one sequence, in numpy.

    Raises:
        ValueError: not a one-directional stack of reset-after GRUs without residuals.
    """

    def __init__(self, stack: Any) -> None:
        first = stack.units[0]
        self.set_up(pack(stack), first.input_size, first.hidden_size, len(stack.units))

    @classmethod
    def of_arrays(cls, tensors: Mapping[str, np.ndarray], prefix: str, layers: int) -> "GRUStream":
        """From parameters as arrays, `<prefix>.<layer>.weight_ih` and so on: without torch."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        parts = [
            {
                name: tensors[f"{prefix}.{layer}.{name}"]
                for name in names
                if f"{prefix}.{layer}.{name}" in tensors
            }
            for layer in range(layers)
        ]
        made = cls.__new__(cls)
        size = parts[0]["weight_ih"].shape
        made.set_up(packed(parts), size[1], size[0] // 3, layers)
        return made

    def set_up(self, weights: np.ndarray, inputs: int, width: int, layers: int) -> None:
        self.weights = weights
        self.input_size, self.hidden_size, self.layers = inputs, width, layers
        self.work: np.ndarray = np.empty((0, 0), np.float32)

    def initial_state(self) -> np.ndarray:
        """(L, H) zeros."""
        return np.zeros((self.layers, self.hidden_size), np.float32)

    def tokens(self, count: int) -> np.ndarray:
        """(count, max(I, H)) zeros: inputs go into the first I columns, outputs come in the first H."""
        return np.zeros((count, max(self.input_size, self.hidden_size)), np.float32)

    def advance(self, tokens: np.ndarray, state: np.ndarray) -> np.ndarray:
        """tokens (T, max(I, H)) and state (L, H), both changed in place -> outputs (T, H), a view of tokens.

        The door for live use: nothing is allocated once the longest window was seen.

        Raises:
            ValueError: tokens or state of another shape or type than this stack's.
        """
        width, expected = max(self.input_size, self.hidden_size), (self.layers, self.hidden_size)
        if tokens.ndim != 2 or tokens.shape[1] != width or tokens.dtype != np.float32:
            raise ValueError(f"expected float32 tokens (T, {width}), got {tokens.dtype} {tokens.shape}")
        if state.shape != expected or state.dtype != np.float32:
            raise ValueError(f"expected a float32 state {expected}, got {state.dtype} {state.shape}")
        time = len(tokens)
        if len(self.work) <= time:
            self.work = np.empty((time + 1, 3 * self.hidden_size), np.float32)
        work = self.work[: time + 1]
        gru_layers(self.weights, self.input_size, self.hidden_size, self.layers, tokens, state, work)
        return tokens[:, : self.hidden_size]

    def run(self, x: np.ndarray, state: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """x (T, I) -> y (T, H), state (L, H).

        Raises:
            ValueError: x or state of another shape than this stack's.
        """
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise ValueError(f"expected tokens (T, {self.input_size}), got {x.shape}")
        state = self.initial_state() if state is None else np.array(state, np.float32)
        tokens = self.tokens(len(x))
        tokens[:, : self.input_size] = x
        return self.advance(tokens, state), state

    def step(self, x: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x (I,), state (L, H) -> y (H,), state; errors as in `run`."""
        y, state = self.run(x[None], state)
        return y[0], state
