"""What units around a gated cell share: parameters in, the loop of `core.kernels.gated_loop` out."""

from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.kernels.gated_loop import Cell, gated_loop, gated_step, library_loop
from core.parts.options import one_of
from core.state import tensors
from core.units.contract import Unit
from core.units.gated.noise import checked_noise


class GatedUnit(Unit):
    """A unit whose step is `cell` on the projected input.

    A subclass sets `cell`, and gives `input_weights` and `weights`.
    """

    freezes = True
    skips = True
    cell: Cell
    states: int = 1
    """How many tensors (B, H) make the state; a single one is not wrapped in a tuple."""

    @property
    def library(self) -> str | None:
        """Which layer of torch and cuDNN computes the same from the same four weights: lstm, gru or none."""
        return None

    def input_weights(self) -> tuple[Tensor, Tensor | None]:
        """W (G, I) and b (G,) or none of the input projection."""
        raise NotImplementedError

    def weights(self) -> tuple[Tensor | None, ...]:
        """The cell's other weights in its own order."""
        raise NotImplementedError

    @torch.no_grad()
    def start_recurrent(self, kind: str) -> None:
        one_of(type(self).__name__, "recurrent", kind, ("orthogonal", "identity"))
        start = nn.init.orthogonal_ if kind == "orthogonal" else nn.init.eye_
        matrices = [part for name, part in self.named_parameters() if name in ("weight_hh", "weight_z")]
        square = [part for part in matrices if part.ndim > 1]
        if not square:
            super().start_recurrent(kind)
        for part in square:
            for head in part if part.ndim == 3 else (part,):
                for gate in head.split(head.shape[1]):
                    start(gate)

    def regularise(
        self,
        zoneout: Any = None,
        weight_drop: float = 0.0,
        variational_dropout: float = 0.0,
        candidate_dropout: float = 0.0,
        generator: Any = None,
    ) -> None:
        name = type(self).__name__
        if zoneout and (self.states > 2 or self.output_size != self.hidden_size):
            raise ConfigError(f"zoneout of {name} needs states that are no more than h and c, of one width")
        if weight_drop and not any(part is not None and part.ndim > 1 for part in self.weights()):
            raise ConfigError(f"{name} has no recurrent matrices, so it takes no weight_drop")
        if candidate_dropout and not self.cell.candidate:
            raise ConfigError(f"{name} writes no candidate into a memory, so it takes no candidate_dropout")
        states = len(tuple(tensors(self.initial_state(torch.zeros(1, 1)))))
        self.noise = checked_noise(
            name,
            states,
            zoneout,
            generator,
            weight_drop=weight_drop,
            variational_dropout=variational_dropout,
            candidate_dropout=candidate_dropout,
        )

    def initial_state(self, x: Tensor) -> Any:
        zeros = tuple(x.new_zeros(x.shape[0], self.hidden_size) for _ in range(self.states))
        return zeros if self.states > 1 else zeros[0]

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.through(gated_step, x, state)

    def run(self, x: Tensor, state: Any, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        if x.is_cuda and self.library is not None:
            single = isinstance(state, Tensor)
            own: Any = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
            found = library_loop(self.cell, self.library, x, own, (state,) if single else state, lengths)
            if found is not None:
                y, final = found
                return y, final[0] if single else final
        return self.through(gated_loop, x, state, *(() if lengths is None else (lengths,)))

    def through(self, compute: Any, x: Tensor, state: Any, *lengths: Tensor) -> tuple[Tensor, Any]:
        single = isinstance(state, Tensor)
        parts = (state,) if single else state
        cell, weights = self.cell, self.weights()
        if self.noisy:
            cell, weights = self.noise.on(cell, weights, self.training)
        y, final = compute(cell, x, *self.input_weights(), parts, weights, *lengths)
        return y, final[0] if single else final


def uniform(unit: nn.Module, bound: float) -> None:
    """All parameters uniform in -bound..bound, as torch starts its recurrent layers."""
    for parameter in unit.parameters():
        nn.init.uniform_(parameter, -bound, bound)


def maybe(present: Any, *shape: int) -> nn.Parameter | None:
    """A parameter to be filled, or none."""
    return nn.Parameter(torch.empty(shape)) if present else None


def added(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The sum of two biases that come together or not at all."""
    return None if a is None or b is None else a + b
