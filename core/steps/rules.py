"""How operators of torch become rows of the machine, other than views and functions of one tensor."""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import torch

from core.steps import codes as do
from core.steps.places import ComplexSlot, NoProgram, Slot, dense, memory_of
from core.steps.program import RULES, Program


def rule(*names: str) -> Callable[[Any], Any]:
    """Signs a function in under names of operators."""

    def sign_in(function: Any) -> Any:
        RULES.update({f"aten.{name}": function for name in names})
        return function

    return sign_in


def parts(value: Any) -> tuple[Any, Any]:
    """Re and Im of a complex place, or a real one and nothing."""
    return (value.re, value.im) if isinstance(value, ComplexSlot) else (value, None)


@rule("add.Tensor", "add.Scalar", "add_.Scalar", "add_.Tensor")
def add(p: Program, a: Any, b: Any, *, alpha: float = 1) -> Any:
    return sum_of(p, do.ADD, a, b if alpha == 1 else multiply(p, b, alpha))


@rule("sub.Tensor", "sub.Scalar")
def subtract(p: Program, a: Any, b: Any, *, alpha: float = 1) -> Any:
    return sum_of(p, do.SUBTRACT, a, b if alpha == 1 else multiply(p, b, alpha))


@rule("rsub.Scalar", "rsub.Tensor")
def subtract_from(p: Program, a: Any, b: Any, alpha: float = 1) -> Any:
    return subtract(p, b, a, alpha=alpha)


def sum_of(p: Program, kind: int, a: Any, b: Any) -> Any:
    if not isinstance(a, ComplexSlot) and not isinstance(b, ComplexSlot):
        return p.of_two(kind, a, b)
    (ar, ai), (br, bi) = parts(a), parts(b)
    if ai is None:
        im = bi if kind == do.ADD else p.of_one(do.NEGATE, bi)
    else:
        im = ai if bi is None else p.of_two(kind, ai, bi)
    return ComplexSlot(p.of_two(kind, ar, br), im)


@rule("mul.Tensor", "mul.Scalar", "mul_.Tensor")
def multiply(p: Program, a: Any, b: Any) -> Any:
    (ar, ai), (br, bi) = parts(a), parts(b)
    if not isinstance(ar, Slot) and not isinstance(br, Slot):
        return ar * br
    re = p.of_two(do.MULTIPLY, ar, br)
    if ai is None and bi is None:
        return re
    if ai is None or bi is None:
        return ComplexSlot(re, p.of_two(do.MULTIPLY, *((ar, bi) if ai is None else (ai, br))))
    re = p.of_two(do.SUBTRACT, re, p.of_two(do.MULTIPLY, ai, bi))
    return ComplexSlot(re, p.of_two(do.ADD, p.of_two(do.MULTIPLY, ar, bi), p.of_two(do.MULTIPLY, ai, br)))


@rule("div.Tensor", "div.Scalar")
def divide(p: Program, a: Any, b: Any) -> Any:
    if isinstance(b, ComplexSlot):
        raise NoProgram("division by complex numbers")
    if isinstance(a, ComplexSlot):
        return ComplexSlot(p.of_two(do.DIVIDE, a.re, b), p.of_two(do.DIVIDE, a.im, b))
    return p.of_two(do.DIVIDE, a, b)


@rule("maximum.default")
def maximum(p: Program, a: Any, b: Any) -> Slot:
    return p.of_two(do.MAXIMUM, a, b)


@rule("minimum.default")
def minimum(p: Program, a: Any, b: Any) -> Slot:
    return p.of_two(do.MINIMUM, a, b)


@rule("clamp.default", "clamp_min.default")
def clamp(p: Program, a: Slot, low: float | None = None, high: float | None = None) -> Slot:
    a = a if low is None else p.of_two(do.MAXIMUM, a, low)
    return a if high is None else p.of_two(do.MINIMUM, a, high)


@rule("eq.Scalar", "eq.Tensor")
def equal(p: Program, a: Any, b: Any) -> Slot:
    return p.cast(p.of_two(do.EQUAL, a, b), 0)


@rule("lt.Scalar", "lt.Tensor")
def less(p: Program, a: Any, b: Any) -> Slot:
    return p.cast(p.of_two(do.LESS_THAN, a, b), 0)


@rule("gt.Scalar", "gt.Tensor")
def greater(p: Program, a: Slot, b: Any) -> Slot:
    b = b if isinstance(b, Slot) else p.number(a.memory, b).expanded(a.shape)
    return p.cast(p.of_two(do.LESS_THAN, b, a), 0)


@rule("remainder.Scalar")
def remainder(p: Program, a: Slot, b: float) -> Slot:
    return p.of_two(do.REMAINDER, a, b)


@rule("where.self")
def where(p: Program, condition: Slot, a: Any, b: Any) -> Slot:
    memory = max([part.memory for part in (a, b) if isinstance(part, Slot)])
    a, b = (p.cast(part, memory) if isinstance(part, Slot) else p.number(memory, part) for part in (a, b))
    shape = tuple(torch.broadcast_shapes(condition.shape, a.shape, b.shape))
    out = p.room(memory, shape)
    chosen = p.cast(condition, memory)
    p.row(do.CHOOSE, out, a.expanded(shape), b.expanded(shape), chosen.expanded(shape))
    return out


@rule("masked_fill.Scalar")
def masked_fill(p: Program, a: Slot, mask: Slot, value: float) -> Slot:
    return where(p, mask, p.number(a.memory, value), a)


@rule("addcmul.default")
def addcmul(p: Program, a: Any, b: Any, c: Any, *, value: float = 1) -> Any:
    return add(p, a, multiply(p, b, c), alpha=value)


@rule("lerp.Tensor", "lerp.Scalar")
def lerp(p: Program, a: Any, b: Any, weight: Any) -> Any:
    return add(p, a, multiply(p, weight, subtract(p, b, a)))


@rule("pow.Tensor_Scalar")
def power(p: Program, a: Slot, exponent: float) -> Slot:
    if exponent == 2:
        return p.of_one(do.SQUARE, a)
    if exponent in (0.5, -0.5):
        return p.of_one(do.SQRT if exponent > 0 else do.RSQRT, a)
    raise NoProgram(f"a power of {exponent}")


@rule("softplus.default")
def softplus(p: Program, a: Slot, beta: float = 1, threshold: float = 20) -> Slot:
    if beta != 1:
        raise NoProgram(f"a softplus of beta {beta}")
    return p.of_one(do.SOFTPLUS, a)


@rule("log_sigmoid_forward.default")
def log_sigmoid(p: Program, a: Slot) -> list[Slot]:
    return [p.of_one(do.LOG_SIGMOID, a)]


@rule("logaddexp.default")
def logaddexp(p: Program, a: Any, b: Any) -> Slot:
    return p.of_two(do.ADD, a, p.of_one(do.SOFTPLUS, p.of_two(do.SUBTRACT, b, a)))


@rule("glu.default")
def glu(p: Program, a: Slot, axis: int = -1) -> Slot:
    half = a.shape[axis] // 2
    shape = list(a.shape)
    shape[axis] = half
    first = replace(a, shape=tuple(shape))
    second = replace(first, offset=a.offset + half * a.strides[axis])
    return p.of_two(do.MULTIPLY, first, p.of_one(do.SIGMOID, second))


@rule("clone.default", "_to_copy.default", "contiguous.default")
def clone(p: Program, a: Any, *, dtype: torch.dtype | None = None, **_: Any) -> Any:
    if isinstance(a, ComplexSlot):
        return ComplexSlot(p.copied(a.re), p.copied(a.im))
    memory = a.memory if dtype is None else memory_of(dtype)
    if dtype is torch.bool:
        raise NoProgram("a change to truth values")
    out = p.copied(a) if memory == a.memory else p.cast(a, memory)
    return out if dtype is None or dtype.is_floating_point else p.of_one(do.TRUNCATE, out)


@rule("ones_like.default")
def ones_like(p: Program, a: Slot, **_: Any) -> Slot:
    return p.number(a.memory, 1).expanded(a.shape)


@rule("zeros_like.default")
def zeros_like(p: Program, a: Slot, **_: Any) -> Slot:
    return p.number(a.memory, 0).expanded(a.shape)


@rule("_conj.default", "conj.default")
def conjugate(p: Program, a: Any) -> Any:
    return ComplexSlot(a.re, p.of_one(do.NEGATE, a.im)) if isinstance(a, ComplexSlot) else a


@rule("complex.default")
def to_complex(p: Program, re: Slot, im: Slot) -> ComplexSlot:
    return ComplexSlot(re, im)


@rule("view_as_complex.default")
def view_as_complex(p: Program, a: Slot) -> ComplexSlot:
    re = replace(a, shape=a.shape[:-1], strides=a.strides[:-1])
    return ComplexSlot(re, replace(re, offset=re.offset + a.strides[-1]))


@rule("view_as_real.default")
def view_as_real(p: Program, a: ComplexSlot) -> Slot:
    re, im = a.re, a.im
    joined = replace(re, shape=(*re.shape, 2), strides=(*re.strides, im.offset - re.offset))
    if re.strides == im.strides and im.offset - re.offset == 1:  # it was such a view before
        return joined
    return p.split(re, im)


@rule("cat.default")
def cat(p: Program, values: list[Any], axis: int = 0) -> Any:
    values = [p.placed(value) for value in values]
    if isinstance(values[0], ComplexSlot):
        return ComplexSlot(
            cat(p, [value.re for value in values], axis), cat(p, [value.im for value in values], axis)
        )
    memory = max(value.memory for value in values)
    values = [p.cast(value, memory) for value in values if prod(value.shape) or len(value.shape) > 1]
    axis %= len(values[0].shape)
    shape = list(values[0].shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    out, start = p.room(memory, tuple(shape)), 0
    for value in values:
        part = replace(out, offset=out.offset + start * out.strides[axis], shape=value.shape)
        p.row(do.COPY, part, value)
        start += value.shape[axis]
    return out


@rule("stack.default")
def stack(p: Program, values: list[Any], axis: int = 0) -> Any:
    values = [p.placed(value) for value in values]
    if isinstance(values[0], ComplexSlot):
        return ComplexSlot(
            *(stack(p, [getattr(value, name) for value in values], axis) for name in ("re", "im"))
        )
    axis %= len(values[0].shape) + 1

    def wider(value: Slot) -> Slot:
        shape, strides = list(value.shape), list(value.strides)
        shape.insert(axis, 1)
        strides.insert(axis, 0)
        return replace(value, shape=tuple(shape), strides=tuple(strides))

    return cat(p, [wider(value) for value in values], axis)


@rule("flip.default")
def flip(p: Program, a: Slot, axes: list[int]) -> Slot:
    offset, strides = a.offset, list(a.strides)
    for axis in axes:
        offset += (a.shape[axis] - 1) * strides[axis]
        strides[axis] = -strides[axis]
    return p.copied(replace(a, offset=offset, strides=tuple(strides)))


def matrices(*places: Slot) -> tuple[Slot, ...]:
    """(M, K) -> (1, M, K), and three axes as they are."""
    return tuple(
        part if len(part.shape) == 3 else replace(part, shape=(1, *part.shape), strides=(0, *part.strides))
        for part in places
    )


@rule("mm.default", "bmm.default")
def mm(p: Program, a: Slot, b: Slot) -> Slot:
    first, second = matrices(a, b)
    out = p.product(first, second)
    shape = out.shape[1:] if len(a.shape) == 2 else out.shape
    return replace(out, shape=shape, strides=dense(shape))


@rule("addmm.default", "baddbmm.default")
def addmm(p: Program, plus: Slot, a: Slot, b: Slot, *, beta: float = 1, alpha: float = 1) -> Slot:
    if beta != 1 or alpha not in (1, -1):
        raise NoProgram(f"a product times {alpha} plus {beta} times another tensor")
    flat = len(a.shape) == 2
    plus = plus.expanded((1, a.shape[0], b.shape[1])) if flat else plus
    first, second = matrices(a, b)
    out = p.product(first, second, plus, less=alpha < 0)
    shape = out.shape[1:] if flat else out.shape
    return replace(out, shape=shape, strides=dense(shape))


@rule("sum.dim_IntList", "sum.default")
def total(p: Program, a: Any, axes: Any = None, keep: bool = False) -> Any:
    if isinstance(a, ComplexSlot):
        return ComplexSlot(p.reduced(do.SUM, a.re, axes, keep), p.reduced(do.SUM, a.im, axes, keep))
    return p.reduced(do.SUM, a, axes, keep)


@rule("mean.dim")
def mean(p: Program, a: Slot, axes: Any, keep: bool = False) -> Slot:
    found = p.reduced(do.SUM, a, axes, keep)
    return p.of_two(do.MULTIPLY, found, prod(found.shape) / prod(a.shape))


@rule("amax.default")
def amax(p: Program, a: Slot, axes: Any = None, keep: bool = False) -> Slot:
    return p.reduced(do.LARGEST, a, axes, keep)


@rule("linalg_vector_norm.default")
def vector_norm(p: Program, a: Slot, order: float = 2, axes: Any = None, keep: bool = False) -> Slot:
    if order != 2:
        raise NoProgram(f"a norm of order {order}")
    return p.of_one(do.SQRT, p.reduced(do.SUM, p.of_one(do.SQUARE, a), axes, keep))


@rule("native_layer_norm.default")
def layer_norm(p: Program, a: Slot, shape: Any, weight: Any, bias: Any, eps: float) -> list[Any]:
    if len(shape) != 1:
        raise NoProgram("a layer norm over several axes")
    a, out = p.solid(a), p.room(a.memory, a.shape)
    line = [do.NORM, a.memory, 1, 1, prod(a.shape[:-1]), a.shape[-1], out.offset, 0, 0, 0, 0, a.offset]
    line += [0, 0, 0, 0, p.number(a.memory, eps).offset]
    p.rows.append(line + [0] * (do.WIDTH - len(line)))
    out = out if weight is None else p.of_two(do.MULTIPLY, out, p.placed(weight))
    return [out if bias is None else p.of_two(do.ADD, out, p.placed(bias))]


@rule("index.Tensor")
def index(p: Program, table: Slot, places: list[Any]) -> Slot:
    """Rows of a table by number."""
    if len(places) != 1 or places[0] is None:
        raise NoProgram("an index on several axes")
    at, table = p.solid(p.cast(p.placed(places[0]), table.memory)), p.solid(table)
    out = p.room(table.memory, (*at.shape, *table.shape[1:]))
    line = [do.GATHER, table.memory, 1, 1, prod(at.shape), prod(table.shape[1:]), out.offset, 0, 0, 0, 0]
    line += [table.offset, 0, 0, 0, 0, at.offset]
    p.rows.append(line + [0] * (do.WIDTH - len(line)))
    return out
