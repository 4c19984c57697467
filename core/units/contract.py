"""What every recurrent unit offers.

    y, state = unit(x)                  x (B, T, I) -> y (B, T, H)
    y, state = unit(x, state)           continue from an explicit state
    y_t, state = unit.step(x_t, state)  x_t (B, I) -> y_t (B, H)
    state = unit.initial_state(x)       the state before the first token

A state is a plain value (see `core.state`). Lengths, masks, resets, layers and directions belong to
the container, `core.blocks.stack`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from inspect import unwrap
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.kernels.choice import recording
from core.parts.memory import Tokens
from core.state import choose, join, map_state, rows, shapes, tensors

MODES = ("step", "sequential", "scan", "chunkwise", "convolution", "newton")
TOGETHER = ("chunkwise", "convolution")
"""Modes that multiply later tokens by zero instead of leaving them out; zero times NaN is NaN."""


class Unit(nn.Module):
    """A recurrent unit: x (B, T, input_size), state -> y (B, T, output_size), state.

    A subclass gives `initial_state`, `step` and, where it is faster than a loop of steps, `run`.
    """

    modes: ClassVar[tuple[str, ...]] = ("step", "sequential")
    """Ways to compute a whole sequence, all equal to rounding; the last one is the default."""
    paper: ClassVar[str] = ""
    """Where the equations come from, for `recurra units`."""
    no_decay: tuple[str, ...] = ()
    """Parameters (by name) that weight decay must not touch."""
    slow: ClassVar[tuple[str, ...]] = ()
    """Decay and step-size parameters that want a smaller learning rate; never decayed either."""
    causal: bool = True
    """A token's output depends on no later token, so that padding after it changes nothing."""
    freezes: bool = True
    """`run` takes lengths and returns states as of each row's last token. A subclass with a `run` of its own
    says so again."""

    row_groups: int = 4
    """Into so many groups rows of different length may be split, each of which is a call of its own."""
    timed: str | None = None
    """The mode in which a unit that is continuous in time runs over gaps `dt`; None: it takes none."""
    skips: bool = False
    """On a CPU, in its default mode, padding costs nothing, whatever it holds, and y is zero there."""
    packs: bool = False
    """The same where memory can be copied: valid tokens are laid one after another (`core.parts.packed`)."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Put the check of token and state before the `step` of every unit, also of those built elsewhere."""
        super().__init_subclass__(**options)
        if "run" in cls.__dict__ and "freezes" not in cls.__dict__:
            cls.freezes = False
        if "step" in cls.__dict__:
            setattr(cls, "step", checked_step(cls.__dict__["step"]))  # noqa: B010

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__.pop("_quick", None)  # what a step was made of is another one now
        super().__setattr__(name, value)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        whole = isinstance(input_size, Integral) and isinstance(hidden_size, Integral)
        if not whole or input_size < 1 or hidden_size < 1:
            raise ConfigError(
                f"{type(self).__name__} needs positive widths, got {input_size!r} and {hidden_size!r}"
            )
        self.input_size = input_size
        self.hidden_size = hidden_size

    @property
    def output_size(self) -> int:
        """Width of y; the hidden width unless a unit projects its output."""
        return self.hidden_size

    def remember(self, tokens: Tokens) -> None:
        """Start with memories of so many tokens: what `core.build(..., remember=tokens)` calls.

        A channel keeps 1 - 1/tau of its state at a token of zero input; tau is spread evenly in the logarithm
        from tokens / 4 to 4 tokens, or between the ends of a pair.

        Raises:
            ConfigError: the unit has no decay of its own, or was built without the biases that hold it.
        """
        raise ConfigError(f"{type(self).__name__} has no decay that could be set, so it takes no remember")

    noise: Any = None
    """What gated units do to their recurrence in training, set by `regularise`."""

    @property
    def noisy(self) -> bool:
        """Whether this call draws, or mixes as `noise` says."""
        return self.noise is not None and self.noise.at_work(self.training)

    def regularise(
        self,
        zoneout: Any = None,
        weight_drop: float = 0.0,
        variational_dropout: float = 0.0,
        candidate_dropout: float = 0.0,
        generator: Any = None,
    ) -> None:
        """Take zoneout (a chance, or one for each state) and dropout of the recurrence, see `core.build`.

        Raises:
            ConfigError: the unit has no such recurrence, or a chance outside 0 <= p < 1.
        """
        raise ConfigError(
            f"{type(self).__name__} is no gated unit, so it takes no zoneout or recurrent dropout"
        )

    def start_recurrent(self, kind: str) -> None:
        """Fill the recurrent matrices gate by gate, "orthogonal" or "identity".

        Raises:
            ConfigError: the unit has no recurrent matrices, or there is no such start.
        """
        raise ConfigError(f"{type(self).__name__} has no recurrent matrices, so it takes no recurrent start")

    def initial_state(self, x: Tensor) -> Any:
        """State before the first token for the batch, device and dtype of x (B, ...)."""
        raise NotImplementedError

    def step(self, x: Tensor, state: Any, dt: Any = None) -> tuple[Tensor, Any]:
        """Advance one token: x (B, I), state (None: initial) -> y (B, H), state.

        Args:
            dt: (B,) or a number, the gap before the token, for units that are `timed`; a subclass gives
                `step(x, state)`, and `step_after` or `run_after` if it is.

        Raises:
            ValueError: wrong shape of x or state, a type that is not floating point.
        """
        raise NotImplementedError

    def step_after(self, x: Tensor, state: Any, gap: Tensor) -> tuple[Tensor, Any]:
        """One token that comes after a gap (B,); 1 is the regular distance.

        A unit that is `timed` has this or `run_after` of its own; the other one follows from it.
        """
        y, state = self.run_after(x[:, None], state, gap[:, None], str(self.timed), None)
        return y[:, 0], state

    def run_after(
        self, x: Tensor, state: Any, gaps: Tensor, mode: str, lengths: Tensor | None
    ) -> tuple[Tensor, Any]:
        """Whole sequence with a gap (B, T) before each token."""
        outputs = []
        for time, (token, gap) in enumerate(zip(x.unbind(1), gaps.unbind(1), strict=True)):
            y, after = self.step_after(token, state, gap)
            state = after if lengths is None else choose(lengths > time, after, state)
            outputs.append(y)
        return torch.stack(outputs, 1), state

    def run(self, x: Tensor, state: Any, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """Whole sequence with T >= 1, checked input, and a mode from `modes` other than "step".

        With lengths (see `forward`) y on padding is of no consequence, but finite.
        """
        return loop_of_steps(self, x, state, lengths)

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        mode: str | None = None,
        *,
        lengths: Tensor | None = None,
        dt: Any = None,
    ) -> tuple[Tensor, Any]:
        """x (B, T, I), state (None: initial) -> y (B, T, H), state after the last token.

        Args:
            dt: (B, T) gaps before the tokens, 0 or more, 1 the regular distance, for units that are `timed`;
                not in mode convolution.
            lengths: (B,) integers in 1..T, the tokens of each row, for units that freeze: x is finite beyond
                them, y means nothing there, and the state is that after each row's last token.
                `core.stack` takes any padding, lengths of zero, and gives zeros.

        Raises:
            ValueError: wrong shape of x or state, a type that is not floating point, unknown mode.
        """
        state = self.checked_state(x, state)
        gaps = None if dt is None else checked_gaps(self, dt, x, x.shape[:2])
        mode = (self.modes[-1] if gaps is None else str(self.timed)) if mode is None else mode
        if mode not in self.modes:
            raise ValueError(f"{type(self).__name__} computes in modes {', '.join(self.modes)}; got {mode!r}")
        if x.shape[0] == 0 or x.shape[1] == 0:
            return no_tokens(self, x, self.output_size), state
        if isinstance(x.shape[1], torch.SymInt) and torch.compiler.is_exporting():
            with any_length(self, x.shape[1]):
                return self.compute(x, state, mode, lengths, gaps)
        return self.compute(x, state, mode, lengths, gaps)

    def compute(
        self, x: Tensor, state: Any, mode: str, lengths: Tensor | None, gaps: Tensor | None
    ) -> tuple[Tensor, Any]:
        """`forward` of checked input with tokens, in a mode of the unit."""
        if gaps is not None:
            if mode == "convolution":
                raise ValueError(f"{type(self).__name__} takes no gaps dt in mode convolution")
            run = self.run_after if mode == self.timed else partial(Unit.run_after, self)
            return run(x, state, gaps, mode, lengths)
        if mode == "step" and not self.noisy:  # noise on weights is drawn once a call
            return loop_of_steps(self, x, state, lengths)
        if mode in TOGETHER:
            return run_apart(self, x, state, mode, lengths)
        return self.run(x, state, mode) if lengths is None else self.run(x, state, mode, lengths)

    def checked_state(self, x: Tensor, state: Any) -> Any:
        """The given state, or the initial one, after checking that both x and state fit."""
        name = type(self).__name__
        if not isinstance(x, Tensor):
            raise ValueError(f"{name} expects a tensor x, got {type(x).__name__}")
        if x.ndim != 3 or x.shape[-1] != self.input_size:
            raise ValueError(f"{name} expects x of shape (B, T, {self.input_size}), got {tuple(x.shape)}")
        if not x.is_floating_point():
            raise ValueError(f"{name} expects floating-point x, got {x.dtype}")
        return self.fitting_state(x, state)

    def fitting_state(self, x: Tensor, state: Any) -> Any:
        """The given state, or the initial one, after checking that it fits the rows of x (B, ...)."""
        initial = self.initial_state(x)
        if state is None:
            return initial
        expected = shapes(initial)
        try:
            given = shapes(state) if isinstance(state, Tensor | tuple) else type(state).__name__
        except (TypeError, RecursionError):
            given = type(state).__name__
        if expected != given:
            raise ValueError(f"{type(self).__name__} expects a state of shape {expected}, got {given}")
        for part, other in zip(tensors(state), tensors(initial), strict=True):
            if other.is_floating_point() and not part.is_floating_point():
                raise ValueError(f"{type(self).__name__} expects a floating-point state, got {part.dtype}")
        return state


Step = Callable[[Any, Tensor, Any], tuple[Tensor, Any]]


def checked_step(step: Step) -> Step:
    """`step` behind a check of its token and state: compiled steps trust the sizes they are given.

    Shapes of the state that were right once are remembered with their number of rows, so that a stream pays
    for comparing them only (below 2 us).
    """

    @wraps(step)
    def checked(self: Any, x: Tensor, state: Any, dt: Any = None) -> tuple[Tensor, Any]:
        if not isinstance(x, Tensor):
            raise ValueError(f"{type(self).__name__} steps on a tensor, got {type(x).__name__}")
        shape = x.shape
        if len(shape) != 2 or shape[1] != self.input_size or not x.is_floating_point():
            raise ValueError(
                f"{type(self).__name__} steps on a floating-point token of shape (B, {self.input_size}), "
                f"got {tuple(shape)} of {x.dtype}"
            )
        if dt is not None:
            state = self.fitting_state(x, state)
            gap = checked_gaps(self, dt, x, shape[:1])
            if gap is not None:
                y, after = self.step_after(x, state, gap)
                return apart(y, after), after
        if recording():  # a remembered shape would become a guard on the number of rows
            y, after = step(self, x, self.initial_state(x) if state is None else state)
            return apart(y, after), after
        single = isinstance(state, Tensor)
        found = (state.shape,) if single else layout(state) if isinstance(state, tuple) else None
        if found is None or self.__dict__.get("_fitting") != (shape[0], single, found):
            state = self.fitting_state(x, state)
            single = isinstance(state, Tensor)
            self.__dict__["_fitting"] = (shape[0], single, (state.shape,) if single else layout(state))
        if not torch.is_grad_enabled() and type(self).step is checked:  # not one that a subclass builds on
            found = self.__dict__.get("_quick") or begin_counting(self)
            found = found.step(self, x, state)
            if found is not None:
                return found
        y, after = step(self, x, state)
        return apart(y, after), after

    return checked


def begin_counting(unit: Unit) -> Any:
    """What takes a unit's steps when there have been many; loaded when the first is taken."""
    from core.steps.quick import Quick

    unit.__dict__["_quick"] = quick = Quick()
    return quick


def stay_eager(network: nn.Module) -> None:
    """Let the units inside a network never write their steps down.

    For servers: their batches have another number of rows each time, and no request of theirs can wait for a
    compiler.
    """
    from core.steps.quick import NEVER

    for part in network.modules():
        if isinstance(part, Unit):
            begin_counting(part).often = NEVER


def checked_gaps(unit: Unit, dt: Any, x: Tensor, shape: Any) -> Tensor | None:
    """Gaps of the given shape in float32 at least; None if all are the regular distance.

    Raises:
        ValueError: the unit is not continuous in time; another shape; gaps below zero, NaN or infinite.
    """
    if unit.timed is None:
        raise ValueError(f"{type(unit).__name__} is not continuous in time, so it takes no gaps dt")
    gaps = torch.as_tensor(dt, device=x.device)
    gaps = gaps.to(torch.promote_types(x.dtype, torch.float32))
    if gaps.ndim == 0:
        gaps = gaps.expand(shape)
    if gaps.shape != shape:
        raise ValueError(f"dt must be of shape {tuple(shape)}, got {tuple(gaps.shape)}")
    if recording() or torch._C._are_functorch_transforms_active():
        return gaps
    if not bool(((gaps >= 0) & gaps.isfinite()).all()):
        raise ValueError("gaps dt must be finite and not below zero")
    return None if bool((gaps == 1).all()) else gaps


@contextmanager
def any_length(unit: Unit, time: Any) -> Iterator[None]:
    """Inside, torch.export writes a graph down that holds for every number of tokens.

    Raises:
        ValueError: the graph would hold for some numbers only, which torch tells after the whole export.
    """
    guards = time.node.shape_env.guards
    known, symbols = len(guards), time.node.expr.free_symbols
    try:
        yield
    except Exception as error:
        raise ValueError(NO_FREE_LENGTH.format(type(unit).__name__)) from error
    if any(symbols & guard.expr.free_symbols for guard in guards[known:]):
        raise ValueError(NO_FREE_LENGTH.format(type(unit).__name__))


NO_FREE_LENGTH = (
    "torch.export writes {} down for one number of tokens only; for any number take "
    "core.export.export_sequence, or export with a fixed T"
)


def apart(y: Tensor, state: Any) -> Tensor:
    """y, copied where it is a tensor of the state: who writes into y must not change the memory."""
    parts = (state,) if isinstance(state, Tensor) else state
    for part in parts:
        if part is y or (isinstance(part, tuple) and apart(y, part) is not y):
            return y.clone()
    return y


def layout(state: Any) -> tuple[Any, ...]:
    """Shapes of a tuple of tensors at the same places, as they come."""
    return tuple([part.shape if isinstance(part, Tensor) else layout(part) for part in state])


def no_tokens(module: nn.Module, x: Tensor, width: int) -> Tensor:
    """Zeros (B, T, width) that depend on x and all parameters, so that a batch of nothing trains."""
    parts = [x, *(part for part in module.parameters() if part.is_floating_point())]
    empty = sum(part.flatten()[:0].sum().to(x.dtype) for part in parts)
    return x.new_zeros(x.shape[0], x.shape[1], width) + empty


def run_apart(unit: Unit, x: Tensor, state: Any, mode: str, lengths: Tensor | None) -> tuple[Tensor, Any]:
    """`run` in a mode of `TOGETHER`, with NaN, infinity and overflow kept away from earlier tokens.

    On a CPU rows that come out with such a number are computed again, one token after another. Elsewhere, and
    where a graph is recorded, there is no looking at numbers: tokens of NaN or infinity are taken out, and
    y and the state are NaN from them on.
    """
    if recording() or not x.is_cpu or torch._C._are_functorch_transforms_active():
        return run_marked(unit, x, state, mode, lengths)
    given = () if lengths is None else (lengths,)
    y, end = unit.run(x, state, mode, *given)
    seen = y.detach()
    if bool(seen.sum().isfinite()):
        return y, end
    spoiled = ~seen.isfinite().flatten(1).all(1)
    broken = any(not bool(part.detach().isfinite().all()) for part in unit.parameters())
    if broken or not bool(spoiled.any()):
        return y, end
    order = spoiled.long().argsort(stable=True)
    groups = order.split([len(x) - int(spoiled.sum()), int(spoiled.sum())])
    parts = [
        unit.run(x[index], rows(state, index), how, *(part[index] for part in given))
        for index, how in zip(groups, (mode, "sequential"), strict=True)
        if len(index)
    ]
    back = order.argsort()
    return torch.cat([y for y, _ in parts])[back], rows(join([end for _, end in parts]), back)


def run_marked(unit: Unit, x: Tensor, state: Any, mode: str, lengths: Tensor | None) -> tuple[Tensor, Any]:
    """`run` on the tokens before the first that is not finite, NaN from there on."""
    bad = ~x.detach().isfinite().all(-1)
    if lengths is not None:
        bad = bad & (torch.arange(x.shape[1], device=x.device) < lengths[:, None])
    gone = bad.long().cumsum(1) > 0
    clean = torch.where(gone.unsqueeze(-1), 0, x)
    y, end = unit.run(clean, state, mode) if lengths is None else unit.run(clean, state, mode, lengths)

    def spoil(part: Tensor) -> Tensor:
        if not part.is_floating_point():
            return part
        return torch.where(gone[:, -1].view(-1, *[1] * (part.ndim - 1)), torch.nan, part)

    return torch.where(gone.unsqueeze(-1), torch.nan, y), map_state(spoil, end)


def loop_of_steps(unit: Unit, x: Tensor, state: Any, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
    """The definition of a unit on a sequence: one step after another. x (B, T, I), T >= 1."""
    outputs = []
    step = unwrap(type(unit).step)  # x and state are checked already
    for time, token in enumerate(x.unbind(1)):
        y, after = step(unit, token, state)
        state = after if lengths is None else choose(lengths > time, after, state)
        outputs.append(y)
    return torch.stack(outputs, 1), state
