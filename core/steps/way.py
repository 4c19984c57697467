"""The compiled step of one unit, and all that has to be as it was when it was made."""

from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor

import core.steps.rules  # noqa: F401
from core.kernels.jit import compiled
from core.kernels.vector_math import part
from core.state import rebuild, tensors
from core.steps.machine import execute
from core.steps.places import KINDS, NoProgram, plain
from core.steps.program import Program, agrees
from core.steps.weights import LiveWeights, same_numbers


class Way:
    """A program and all that has to be as it was when it was made."""

    def __init__(self, unit: Any, x: Tensor, state: Any) -> None:
        self.weights = LiveWeights(unit)
        random = torch.random.get_rng_state()
        try:
            self.program = program = Program(unit, len(x), x.dtype, self.weights)
            self.set_up(unit, x, state, program)
            right = agrees(unit, x, state, lambda token, before: self.known([token, *tensors(before)]))
            if not right or not torch.equal(random, torch.random.get_rng_state()):
                raise NoProgram("numbers that come from elsewhere")
        finally:
            torch.random.set_rng_state(random)

    def known(self, given: list[Tensor]) -> tuple[Tensor, Any]:
        """`taken` of parts that cannot have changed."""
        found = self.taken(given)
        assert found is not None
        return found

    def set_up(self, unit: Any, x: Tensor, state: Any, program: Program) -> None:
        """Remember what a call looks like, and the unit's parts."""
        self.held, self.checks = self.weights.checks()
        self.shape, self.dtype, self.training = x.shape, x.dtype, unit.training
        parts = list(tensors(state))
        self.layout = (
            None if isinstance(state, Tensor) else rebuild(state, iter([x.new_empty(0)] * len(parts)))
        )
        self.types = [x.dtype, *(part.dtype for part in parts)]
        self.y = program.y.shape
        given, found = [program.x, *program.state], [program.y, *program.after]
        kinds = [KINDS[kind] for kind in self.types]
        moves = [
            [place.memory, place.offset, int(np.prod(place.shape)), kind, not place.contiguous]
            for places in (given, found)
            for place, kind in zip(places, kinds, strict=True)
        ]
        self.moves = np.array(moves, np.int64)
        self.whole, self.bytes = np.zeros(1, np.int64), np.zeros(1, np.uint8)
        slots = [
            (kept, name, part)
            for module in unit.modules()
            for kept in (module._parameters, module._buffers, module._modules)
            for name, part in kept.items()
        ]
        self.slots, self.parts = [(kept, name) for kept, name, _ in slots], [part for *_, part in slots]
        self.lying = [part.data_ptr() for part in self.weights.parts]

    def fitting(self, unit: Any, x: Tensor, state: Any) -> list[Tensor] | None:
        """Token and parts of the state, if this call is of the kind that the program was made for."""
        parts = [x, state] if isinstance(state, Tensor) else [x, *tensors(state)]
        if x.shape != self.shape or type(x) is not Tensor or unit.training is not self.training:
            return None
        if [part.dtype for part in parts] != self.types:
            return None
        return parts if all(map(is_on_cpu, parts)) and plain(x) else None

    def taken(self, given: list[Tensor]) -> tuple[Tensor, Any] | None:
        """One token; None if the unit's parts are not what they were."""
        if not all(map(is_, [kept.get(name) for kept, name in self.slots], self.parts)):
            return None
        if list(map(address_of, self.weights.parts)) != self.lying:
            return None
        given = [part if part.is_contiguous() else part.contiguous() for part in given]
        found = [given[0].new_empty(self.y), *map(torch.empty_like, given[1:])]
        addresses = np.array([*map(address_of, given), *map(address_of, found)], np.int64)
        program, others = (
            self.program,
            (self.whole, self.bytes, self.moves, addresses, self.held, self.checks),
        )
        if not advance(program.tables[0], *program.memories, *others):
            return None
        y, *after = found
        return y, after[0] if self.layout is None else rebuild(self.layout, iter(after))


address_of = Tensor.data_ptr


def is_on_cpu(part: Tensor) -> bool:
    return part.is_cpu


@compiled
def advance(
    program: Any,
    single: Any,
    double: Any,
    whole: Any,
    octets: Any,
    moves: Any,
    addresses: Any,
    held: Any,
    checks: Any,
) -> bool:
    """Take in token and state, run the program, give out answer and state; False if weights have changed.

    A move is (memory, offset, count, type of the tensor, whether all Re come before all Im); the first half
    goes in.
    """
    if not same_numbers(held, checks):
        return False
    half = moves.shape[0] // 2
    for index in range(half):
        move(moves[index], addresses[index], single, double, whole, octets, True)
    execute(program, single, double)
    for index in range(half, moves.shape[0]):
        move(moves[index], addresses[index], single, double, whole, octets, False)
    return True


@compiled
def move(one: Any, address: Any, single: Any, double: Any, whole: Any, octets: Any, into: Any) -> None:
    """Numbers between a memory and a tensor of float32 (0), float64 (1), int64 (2) or bool (3)."""
    offset, count, kind, pairs = one[1], one[2], one[3], one[4]
    if kind == 0:
        far = part(single, (address - single.ctypes.data) // 4, count)
        exchange(part(single, offset, count), far, pairs, into)
    elif kind == 1:
        wide = part(double, (address - double.ctypes.data) // 8, count)
        exchange(part(double, offset, count), wide, pairs, into)
    elif kind == 2:
        integers = part(whole, (address - whole.ctypes.data) // 8, count)
        exchange(part(double, offset, count), integers, pairs, into)
    else:
        truths = part(octets, address - octets.ctypes.data, count)
        exchange(part(single, offset, count), truths, pairs, into)


@compiled
def exchange(near: Any, far: Any, pairs: Any, into: Any) -> None:
    half = near.size // 2
    if pairs and into:
        for t in range(half):
            near[t], near[half + t] = far[2 * t], far[2 * t + 1]
    elif pairs:
        for t in range(half):
            far[2 * t], far[2 * t + 1] = near[t], near[half + t]
    elif into:
        for t in range(near.size):
            near[t] = far[t]
    else:
        for t in range(near.size):
            far[t] = near[t]
