"""A step of any unit or stack as a program of `core.steps.machine`.

torch writes down the operators of one step (`make_fx`). What depends on parameters alone is computed at once,
views become offsets and strides, and every other operator a row or a few. A complex number is two real ones,
Re and Im, from the start; integers and float64 live in a memory of float64.
"""

import operator
from collections.abc import Callable
from dataclasses import replace
from inspect import unwrap
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from core.kernels.choice import RECORDING
from core.state import rebuild, tensors
from core.steps import codes as do
from core.steps.joining import joined, operands, room_of, sorted_starts
from core.steps.places import ComplexSlot, NoProgram, Slot, dense, memory_of, view
from core.steps.weights import LiveWeights

aten = torch.ops.aten


def record(unit: Any, x: Tensor, state: list[Tensor]) -> torch.fx.GraphModule:
    """The operators of one step (x, *state) -> (y, *state).

    Raises:
        NoProgram: they cannot be written down, for example where they depend on the numbers.
    """
    layout, token = unit.initial_state(x), RECORDING.set(True)

    def one(x: Tensor, *parts: Tensor) -> list[Tensor]:
        y, after = unit.step(x, rebuild(layout, iter(parts)))
        return [y, *tensors(after)]

    try:
        with torch.no_grad():
            return make_fx(one)(x, *state)
    except Exception as error:  # whatever a stranger's step meets under torch's tracer
        raise NoProgram(str(error)) from error
    finally:
        RECORDING.reset(token)


def agrees(unit: Any, x: Tensor, state: Any, step: Callable[[Tensor, Any], tuple[Tensor, Any]]) -> bool:
    """Whether a compiled step answers as the unit itself does, on tokens that it was not written down with.

    What a stranger's step does outside of torch's operators, in numpy say, is a constant in a program.
    """
    generator, own = torch.Generator().manual_seed(0), unwrap(type(unit).step)
    for _ in range(3):
        token = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        with torch.no_grad():
            wanted, after = own(unit, token, state)
        found, ended = step(token, state)
        for right, ours in zip((wanted, *tensors(after)), (found, *tensors(ended)), strict=True):
            near = 1e-3 * (1 + float(torch.nan_to_num(right.double()).abs().amax()) if right.numel() else 1)
            if not torch.allclose(ours.double(), right.double(), rtol=0, atol=near, equal_nan=True):
                return False
        state = after
    return True


class Program:
    """Rows of the machine, its memories, and where tokens, answers and states lie.

    Raises:
        NoProgram: the machine lacks an operator.
    """

    def __init__(self, unit: Any, batch: int, dtype: torch.dtype, weights: LiveWeights | None = None) -> None:
        x = torch.zeros(batch, unit.input_size, dtype=dtype)
        state = [part.contiguous().clone() for part in tensors(unit.initial_state(x))]
        self.weights = weights
        self.rows: list[list[int]] = []
        self.sizes = [0, 0]
        self.rooms: dict[tuple[int, int], int] = {}
        self.flat: dict[Slot, Slot] = {}
        self.pairs: dict[Slot, ComplexSlot] = {}
        self.constants: list[tuple[Slot, np.ndarray]] = []
        self.known: dict[tuple[int, float], Slot] = {}
        module = record(unit, x, state)
        values: dict[Any, Any] = {}
        inputs: list[Slot] = []
        outputs: Any = ()
        for node in module.graph.nodes:
            if node.op == "placeholder":
                given = [x, *state][len(inputs)]
                values[node] = self.input_room(given)
                inputs.append(values[node])
            elif node.op == "get_attr":
                values[node] = getattr(module, node.target).detach()
            elif node.op == "output":
                outputs = [self.placed(value) for value in look_up(node.args[0], values)]
            else:
                args = look_up(node.args, values)
                values[node] = self.apply(node.target, args, look_up(node.kwargs, values))
        self.x, self.state = inputs[0], inputs[1:]
        self.y = self.solid(outputs[0])
        # every state has memory of its own for the next one; the two change places after each step
        taken = {(self.y.memory, self.y.offset)}
        self.after = [
            self.own_room(part, before, taken) for part, before in zip(outputs[1:], self.state, strict=True)
        ]
        self.drop_unread()
        self.rows = joined(self.rows, self.rooms, {(p.memory, p.offset) for p in (self.y, *self.after)})
        table = np.array(self.rows, np.int64).reshape(-1, do.WIDTH)
        self.tables = table, self.exchanged(table)
        self.memories = np.zeros(self.sizes[0] + 1, np.float32), np.zeros(self.sizes[1] + 1, np.float64)
        if weights is not None:
            for table in self.tables:
                weights.point(table, self.memories)
        for place, numbers in self.constants:
            memory = self.memories[place.memory]
            memory[place.offset : place.offset + numbers.size] = numbers.ravel()

    def input_room(self, given: Tensor) -> Slot:
        """Room for a token or a state; where that holds pairs (Re, Im), all Re come first."""
        memory, shape = memory_of(given.dtype), tuple(given.shape)
        if given.ndim < 3 or shape[-1] != 2:
            return self.room(memory, shape)
        return view(self.room(memory, (2, *shape[:-1])), [*range(1, given.ndim), 0])

    def split(self, re: Slot, im: Slot) -> Slot:
        """Pairs (..., 2) of two copies that each lie together."""
        both = self.room(re.memory, (2, *re.shape))
        size = prod(re.shape)
        for place, value in enumerate((re, im)):
            target = Slot(re.memory, both.offset + place * size, re.shape, dense(re.shape))
            self.row(do.COPY, target, value)
        pairs = view(both, [*range(1, len(re.shape) + 1), 0])
        self.pairs[pairs] = ComplexSlot(re, im)
        return pairs

    def own_room(self, part: Slot, before: Slot, taken: set[tuple[int, int]]) -> Slot:
        """The place of a next state, laid out as before, copied unless it fills a room that a row wrote."""
        place = (part.memory, part.offset)
        whole = self.rooms.get(place) == prod(before.shape) and part.memory == before.memory
        written = any((row[1], row[do.TARGET]) == place for row in self.rows)
        if place in taken or not whole or not written or part.strides != before.strides:
            part = self.cast(part, before.memory)
            copy = replace(self.room(before.memory, before.shape), strides=before.strides)
            self.row(do.COPY, copy, part)
            return copy
        taken.add(place)
        return part

    def drop_unread(self) -> None:
        """Leave out rows whose numbers nobody reads."""
        starts = sorted_starts(self.rooms)
        needed = {(place.memory, place.offset) for place in (self.y, *self.after)}
        kept = []
        for row in reversed(self.rows):
            of = row[1]  # copies between memories read from the other one
            source = 1 - of if row[0] in (do.UP, do.DOWN) else of

            if room_of(starts, of, row[do.TARGET]) not in needed:
                continue
            kept.append(row)
            needed |= {room_of(starts, source, row[at]) for at in operands(row)}
        self.rows = kept[::-1]

    def exchanged(self, table: np.ndarray) -> np.ndarray:
        """The same rows with the states before and after in each other's memory."""
        other = table.copy()
        for before, after in zip(self.state, self.after, strict=True):
            size = prod(before.shape)
            for at in (do.TARGET, do.FIRST, do.SECOND, do.THIRD):
                crossing = np.isin(table[:, 0], (do.UP, do.DOWN)) & (at != do.TARGET)
                memory = np.where(crossing, 1 - table[:, 1], table[:, 1])
                for source, target in ((before, after), (after, before)):
                    here = (memory == source.memory) & (table[:, at] >= source.offset)
                    here &= table[:, at] < source.offset + size
                    other[here, at] = table[here, at] - source.offset + target.offset
        return other

    # places

    def room(self, memory: int, shape: tuple[int, ...]) -> Slot:
        """Fresh memory for a tensor, on a border of 64 bytes."""
        at = self.sizes[memory]
        self.rooms[memory, at] = prod(shape)
        self.sizes[memory] = at + -(-max(1, prod(shape)) // 16) * 16
        return Slot(memory, at, tuple(shape), dense(tuple(shape)))

    def placed(self, value: Any) -> Any:
        """A value as a place: constants go into memory."""
        if isinstance(value, Slot | ComplexSlot):
            return value
        if isinstance(value, Tensor):
            if value.is_complex():
                return ComplexSlot(self.placed(value.real), self.placed(value.imag))
            if self.weights is not None:
                self.weights.copied(value)
            # in the order in which it lies in memory: rows of a weight stay rows when it is transposed
            order = sorted(range(value.ndim), key=lambda axis: -value.stride(axis))
            stored = value.permute(order)
            place = self.room(memory_of(value.dtype), tuple(stored.shape))
            self.constants.append((place, stored.double().cpu().numpy()))
            return view(place, [order.index(axis) for axis in range(value.ndim)])
        raise NoProgram(f"a {type(value).__name__} among the tensors")

    def number(self, memory: int, value: float) -> Slot:
        """A number as a tensor of no axes."""
        key = (memory, float(value))
        if key not in self.known:
            place = self.room(memory, ())
            self.constants.append((place, np.array(float(value))))
            self.known[key] = place
        return self.known[key]

    def solid(self, value: Slot) -> Slot:
        return value if value.contiguous else self.copied(value)

    def copied(self, value: Slot) -> Slot:
        out = self.room(value.memory, value.shape)
        self.row(do.COPY, out, value)
        return out

    def cast(self, value: Slot, memory: int) -> Slot:
        if value.memory == memory:
            return value
        out = self.room(memory, value.shape)
        self.row(do.UP if memory else do.DOWN, out, value)
        return out

    # rows

    def row(self, kind: int, target: Slot, *operands: Slot) -> None:
        """An operator element by element; axes that lie together in all become one."""
        if not prod(target.shape):
            return
        axes = [
            [size, target.strides[axis], *(part.strides[axis] for part in operands)]
            for axis, size in enumerate(target.shape)
            if size != 1
        ]
        merged: list[list[int]] = []
        for axis in axes:
            if merged and all(
                outer == inner * axis[0] for outer, inner in zip(merged[-1][1:], axis[1:], strict=True)
            ):
                merged[-1] = [merged[-1][0] * axis[0], *axis[1:]]
            else:
                merged.append(axis)
        if len(merged) > 4:
            raise NoProgram("a tensor of more than four axes")
        merged = [[1] + [0] * (len(operands) + 1)] * (4 - len(merged)) + merged
        line = [kind, target.memory, *(axis[0] for axis in merged)]
        for place, part in enumerate((target, *operands)):
            line += [part.offset, *(axis[1 + place] for axis in merged)]
        self.rows.append(line + [0] * (do.WIDTH - len(line)))

    def of_one(self, kind: int, value: Slot) -> Slot:
        out = self.room(value.memory, value.shape)
        self.row(kind, out, value)
        return out

    def of_two(self, kind: int, a: Any, b: Any) -> Slot:
        memory = max(part.memory for part in (a, b) if isinstance(part, Slot))
        a, b = (self.cast(p, memory) if isinstance(p, Slot) else self.number(memory, p) for p in (a, b))
        shape = tuple(torch.broadcast_shapes(a.shape, b.shape))
        out = self.room(memory, shape)
        a, b = (part if part.strides[-1:] in ((), (0,), (1,)) else self.together(part) for part in (a, b))
        self.row(kind, out, a.expanded(shape), b.expanded(shape))
        return out

    def together(self, value: Slot) -> Slot:
        """A copy whose last axis lies together, made once: loops over such run many times as fast."""
        if value not in self.flat:
            self.flat[value] = self.copied(value)
        return self.flat[value]

    def product(self, a: Slot, b: Slot, plus: Slot | None = None, *, less: bool = False) -> Slot:
        """plus + a b for a (N, M, K), b (N, K, J)."""
        shape = (*a.shape[:2], b.shape[2])
        out = self.room(a.memory, shape)
        plus = None if plus is None else plus.expanded(shape)
        start = [-1, 0, 0, 0, 0] if plus is None else [plus.offset, *plus.strides, 0]
        if prod(shape):
            line = [do.LESS if less else do.PRODUCT, a.memory, *shape, a.shape[2]]
            line += [out.offset, *out.strides, 0, *start, a.offset, *a.strides, 0, b.offset, *b.strides, 0]
            self.rows.append(line)
        return out

    def reduced(self, kind: int, value: Slot, axes: Any, keep: bool) -> Slot:
        """Over some axes; the target lies as torch's does."""
        rank = len(value.shape)
        over = sorted({axis % rank for axis in axes} if axes else set(range(rank)))
        stay = [axis for axis in range(rank) if axis not in over]
        turned = view(value, [*stay, *over])
        count = prod(value.shape[axis] for axis in over)
        outer = tuple(value.shape[axis] for axis in stay)
        if len(over) != 1 or len(stay) > 3:
            turned = replace(self.solid(turned), shape=(prod(outer), count), strides=(count, 1))
        out = self.room(value.memory, outer)
        lead = 4 - len(turned.shape)
        line = [kind, value.memory, *(1,) * lead, *turned.shape]
        line += [out.offset, 0, 0, 0, 0, turned.offset, *(0,) * lead, *turned.strides]
        self.rows.append(line + [0] * (do.WIDTH - len(line)))
        shape = tuple(1 if axis in over else size for axis, size in enumerate(value.shape)) if keep else outer
        return replace(out, shape=shape, strides=dense(shape))

    # operators

    def apply(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The value of an operator: a tensor if it depends on parameters alone, else places."""
        flat = list(leaves((args, kwargs)))
        if not any(isinstance(part, Slot | ComplexSlot) for part in flat):
            if self.weights is not None and str(target) not in VIEWS:
                self.weights.copied(*flat)
            with torch.no_grad():
                return target(*args, **kwargs)
        if target is operator.getitem:
            return args[0][args[1]] if args[1] < len(args[0]) else None  # what only gradients need
        name = str(target)
        if name in VIEWS:
            return self.seen(target, args, kwargs)
        if name in ONE:
            return self.of_one(ONE[name], self.placed(args[0]))
        rule = RULES.get(name)
        if rule is None:
            raise NoProgram(f"the operator {name}")
        if self.weights is not None and name in PRODUCTS:
            *others, last = args
            args = (*others, self.weights.left_alone(last, self.rooms) or last)
        ready = [self.placed(part) if isinstance(part, Tensor) else part for part in args]
        return rule(self, *ready, **kwargs)

    def seen(self, target: Any, args: Any, kwargs: Any) -> Any:
        """A view: torch says what it makes of a tensor that lies in memory as ours does."""
        value = self.placed(args[0])
        if isinstance(value, ComplexSlot):
            pair = [self.seen(target, (part, *args[1:]), kwargs) for part in (value.re, value.im)]
            if isinstance(pair[0], list):
                return [ComplexSlot(re, im) for re, im in zip(*pair, strict=True)]
            return ComplexSlot(*pair)
        known = self.pairs.get(value)
        if known is not None and str(target) == "aten.select.int" and args[1] in (-1, len(value.shape) - 1):
            return (known.re, known.im)[args[2]]  # no need of the copy
        try:
            found = self.as_torch(value, target, args[1:], kwargs)
        except RuntimeError:  # numbers that do not lie together
            value = self.copied(value)
            found = self.as_torch(value, target, args[1:], kwargs)
        return found

    @staticmethod
    def as_torch(value: Slot, target: Any, rest: Any, kwargs: Any) -> Any:
        storage = torch.empty(0, device="meta").new_empty(value.offset + reach(value))
        own = storage.as_strided(value.shape, value.strides, value.offset)
        found = target(own, *rest, **kwargs)

        def back(part: Tensor) -> Slot:
            return Slot(value.memory, int(part.storage_offset()), tuple(part.shape), tuple(part.stride()))

        return [back(part) for part in found] if isinstance(found, tuple | list) else back(found)


def reach(value: Slot) -> int:
    """Numbers from the first to behind the last."""
    return 1 + sum((size - 1) * step for size, step in zip(value.shape, value.strides, strict=True) if size)


def look_up(args: Any, values: dict[Any, Any]) -> Any:
    return map_arg(args, lambda node: values[node])


def leaves(nested: Any) -> Any:
    if isinstance(nested, dict):
        nested = tuple(nested.values())
    if isinstance(nested, tuple | list):
        for part in nested:
            yield from leaves(part)
    else:
        yield nested


VIEWS = {
    f"aten.{name}"
    for name in (
        "view.default", "_unsafe_view.default", "expand.default", "permute.default", "t.default",
        "transpose.int", "slice.Tensor", "select.int", "split.Tensor", "split_with_sizes.default",
        "squeeze.dim", "squeeze.dims", "unsqueeze.default", "unbind.int", "alias.default", "detach.default",
        "diagonal.default", "as_strided.default",
    )
}  # fmt: skip
"""Operators that move no number."""

PRODUCTS = {f"aten.{name}.default" for name in ("mm", "bmm", "addmm", "baddbmm")}

ONE = {
    "aten.sigmoid.default": do.SIGMOID, "aten.tanh.default": do.TANH, "aten.exp.default": do.EXP,
    "aten.log.default": do.LOG, "aten.sqrt.default": do.SQRT, "aten.rsqrt.default": do.RSQRT,
    "aten.neg.default": do.NEGATE, "aten.abs.default": do.ABS, "aten.relu.default": do.RELU,
    "aten.silu.default": do.SILU, "aten.gelu.default": do.GELU, "aten.elu.default": do.ELU,
    "aten.reciprocal.default": do.RECIPROCAL, "aten.cos.default": do.COS, "aten.sin.default": do.SIN,
    "aten.expm1.default": do.EXPM1, "aten.log1p.default": do.LOG1P, "aten.bitwise_not.default": do.NOT,
    "aten.logical_not.default": do.NOT, "aten.square.default": do.SQUARE,
}  # fmt: skip
"""Operators of one real tensor, in their plain form."""

RULES: dict[str, Callable[..., Any]] = {}
"""All others; `core.steps.rules` fills it, which whoever makes a program has to import."""
