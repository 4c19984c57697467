"""One token after another through a unit or stack, one compiled call each.

    stream = core.streaming.open(core.build("mamba", 128))
    for x in source:
        y = stream.step(x)                  # (B, I) -> (B, H), arrays or tensors

The step of the network becomes a program of `core.steps.machine`. The state lives in the stream; `state`
gives and takes it as a value, so that a stream can be moved, saved or branched.
"""

from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import core.steps.rules  # noqa: F401
from core.parts.undisturbed import undisturbed
from core.state import rebuild, shapes, tensors
from core.steps.machine import execute
from core.steps.places import NoProgram, Slot
from core.steps.program import Program, agrees


class Streamer:
    """x (B, I) -> y (B, H), one call a token, on the CPU, in float32 or the float64 of the network.

    The network is as in evaluation, and is left alone, as are the random generator and what is passed in.
    When parameters have changed since, by an optimiser, loading or in place, the next step uses the new ones;
    after a change that torch does not count (`parameter.data`, fused optimisers) call `refresh`.

    A network with an operator that the machine lacks streams through its own eager step: `compiled` tells.

    Args:
        unit: a unit, or a stack of one direction.
        batch: B, streams that advance together.

    Raises:
        ValueError: the network reads the future, or lies on another device.
    """

    def __init__(self, unit: Any, batch: int = 1) -> None:
        lacking = [name for name in ("step", "initial_state", "input_size") if not hasattr(unit, name)]
        if lacking:
            raise ValueError(f"a stream takes a unit or a stack; {type(unit).__name__} has no {lacking[0]}")
        if not isinstance(batch, int) or batch < 1:
            raise ValueError(f"a stream has 1 or more rows, got {batch!r}")
        if getattr(unit, "directions", 1) != 1 or not getattr(unit, "causal", True):
            raise ValueError(f"this {type(unit).__name__} reads the future; it cannot go step by step")
        elsewhere = {str(part.device) for part in unit.parameters() if not part.is_cpu}
        if elsewhere:
            raise ValueError(
                f"a stream runs on the CPU, and this {type(unit).__name__} lies on {min(elsewhere)}; "
                "move it by .cpu(), or take its own step there"
            )
        self.unit, self.batch = unit, batch
        self.dtype = next((p.dtype for p in unit.parameters() if p.is_floating_point()), torch.float32)
        self.shape = (batch, int(unit.input_size))
        self.program: Program | None = None
        self.initial = self.eager = self.first_state()
        self.take_weights()
        self.reset()

    def first_state(self) -> Any:
        """Before the first token, which for some units depends on parameters."""
        with torch.no_grad():
            first = self.unit.initial_state(torch.zeros(self.shape, dtype=self.dtype))
            return rebuild_with(first, lambda part: part.detach().cpu().clone())

    @property
    def compiled(self) -> bool:
        """Whether a step is one compiled call."""
        return self.program is not None

    def refresh(self) -> None:
        """Take the network's parameters as they are now; the state stays."""
        state = self.state
        self.initial = self.first_state()
        self.take_weights()
        self.state = state

    def take_weights(self) -> None:
        self.seen, self.turn = Seen(self.unit), 0
        try:
            with undisturbed(self.unit):
                self.program = Program(self.unit, self.batch, self.dtype)
            self.token, self.answer = self.numbers(self.program.x), self.numbers(self.program.y)
            with undisturbed(self.unit):
                right = agrees(self.unit, torch.empty(self.shape, dtype=self.dtype), self.initial, self.told)
            if not right:
                self.program = None
        except NoProgram:
            self.program = None

    def told(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """What the program makes of a token and a state."""
        self.state = state
        return torch.from_numpy(self.advanced(x.numpy())), self.state

    def advanced(self, x: np.ndarray) -> np.ndarray:
        """One token through the program."""
        assert self.program is not None
        self.token[...] = x
        execute(self.program.tables[self.turn], *self.program.memories)
        self.turn = 1 - self.turn
        return self.answer.copy()

    def reset(self) -> None:
        """Back to before the first token."""
        self.state = self.initial

    @property
    def state(self) -> Any:
        """The network's own state as a copy: a tensor or nested tuple of tensors."""
        if self.program is None:
            return rebuild_with(self.eager, torch.clone)
        parts = [
            torch.from_numpy(self.numbers(place).copy()).to(part.dtype)
            for place, part in zip(self.places(), tensors(self.initial), strict=True)
        ]
        return rebuild(self.initial, iter(parts))

    @state.setter
    def state(self, state: Any) -> None:
        if shapes(state) != shapes(self.initial):
            raise ValueError(f"this stream has a state of shape {shapes(self.initial)}, got {shapes(state)}")
        if self.program is None:
            kept = [
                part.detach().cpu().to(own.dtype, copy=True)
                for part, own in zip(tensors(state), tensors(self.initial), strict=True)
            ]
            self.eager = rebuild(self.initial, iter(kept))
            return
        for place, part in zip(self.places(), tensors(state), strict=True):
            self.numbers(place)[...] = part.detach().cpu().numpy()

    def places(self) -> list[Slot]:
        """Where the state lies now: before and after change places at every step."""
        assert self.program is not None
        return self.program.after if self.turn else self.program.state

    def numbers(self, place: Slot) -> np.ndarray:
        """The numbers at a place, as a view."""
        assert self.program is not None
        memory = self.program.memories[place.memory][place.offset :]
        steps = [step * memory.itemsize for step in place.strides]
        return np.lib.stride_tricks.as_strided(memory, place.shape, steps)

    def step(self, x: Any) -> Any:
        """Advance one token: x (B, I) -> y (B, H), a tensor for a tensor and an array for anything else.

        Raises:
            ValueError: another shape than (B, I).
        """
        given = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
        if given.shape != self.shape:
            raise ValueError(f"this stream takes x of shape {self.shape}, got {given.shape}")
        if self.seen.stale():
            self.refresh()
        if self.program is None:
            y = self.eager_step(given)
        else:
            y = self.advanced(given)
        return torch.from_numpy(y) if isinstance(x, Tensor) else y

    def eager_step(self, x: np.ndarray) -> np.ndarray:
        """Through the network's own step."""
        with undisturbed(self.unit), torch.no_grad():
            y, self.eager = self.unit.step(torch.as_tensor(x, dtype=self.dtype), self.eager)
        return y.numpy()


class Seen:
    """Parameters and buffers of a network as they were, by identity and by what torch counts of changes."""

    def __init__(self, network: nn.Module) -> None:
        found = [
            (kept, name, part)
            for module in network.modules()
            for kept in (module._parameters, module._buffers)
            for name, part in kept.items()
            if part is not None and not part.is_inference()
        ]
        below = [
            (module._modules, name, part)
            for module in network.modules()
            for name, part in module._modules.items()
        ]
        self.slots = [(kept, name) for kept, name, _ in (*found, *below)]
        self.parts = [part for *_, part in (*found, *below)]
        self.tensors = [part for *_, part in found]
        self.versions = [part._version for part in self.tensors]

    def stale(self) -> bool:
        """Whether a parameter is another one or has changed since."""
        if [part._version for part in self.tensors] != self.versions:
            return True
        return not all(map(is_, [kept.get(name) for kept, name in self.slots], self.parts))


def rebuild_with(state: Any, change: Any) -> Any:
    """The same nesting of changed tensors."""
    return rebuild(state, iter([change(part) for part in tensors(state)]))
