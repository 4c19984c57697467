"""What people do with modules of torch, and expect of a unit."""

import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from core.battery.subject import WIDTH, Subject, close, sample
from core.blocks.stack import Stack
from core.state import map_state, tensors
from core.units.contract import Unit


def y_is_never_the_memory_of_the_state(of: Subject) -> None:
    unit, x = of.make(), sample()
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            y, state = unit.step(x[:, 0], unit.initial_state(x))
            before = map_state(torch.clone, state)
            y.detach().fill_(99.0)
            assert all(map(torch.equal, tensors(before), tensors(state))), "y and the state are one memory"


def a_state_holds_its_own_numbers_only(of: Subject) -> None:
    unit = of.make(torch.float32)
    x = sample(batch=1, time=100, dtype=torch.float32)
    own = sum(part.numel() * part.element_size() for part in tensors(unit.initial_state(x)))
    for mode in unit.modes[1:]:
        with torch.no_grad():
            state = unit(x, None, mode)[1]
        held = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in tensors(state)}
        assert sum(held.values()) <= 2 * own + 64, (
            f"{mode}: {own} bytes of state keep {sum(held.values())} alive"
        )


def every_parameter_gets_a_gradient(of: Subject) -> None:
    """Distributed training stops at one that does not."""
    unit = of.make()
    if not list(unit.parameters()):
        return
    y, _ = unit(sample())
    found = torch.autograd.grad(y.square().sum(), list(unit.parameters()), allow_unused=True)
    missing = [name for (name, _), part in zip(unit.named_parameters(), found, strict=True) if part is None]
    assert not missing, f"no gradient for {missing}"


def checkpointing_gives_the_same_gradients(of: Subject) -> None:
    unit, x = of.make(), sample().requires_grad_()
    plain = torch.autograd.grad(unit(x)[0].square().sum(), x)[0]
    y, _ = checkpoint(unit, x, use_reentrant=False)  # pyright: ignore[reportGeneralTypeIssues]
    close(torch.autograd.grad(y.square().sum(), x)[0], plain)


def second_derivatives_equal_those_of_steps(of: Subject) -> None:
    unit, found = of.make(), []
    for mode in (None, "step"):
        x = sample(batch=1, time=4).requires_grad_()
        first = torch.autograd.grad(unit(x, None, mode)[0].square().sum(), x, create_graph=True)[0]
        found.append(torch.autograd.grad(first.square().sum(), x)[0])
    close(found[0], found[1], 1e-7)
    x = sample(batch=2, time=4).requires_grad_()
    y, _ = Stack([unit], WIDTH)(x, lengths=torch.tensor([4, 1]))
    first = torch.autograd.grad(y.square().sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), x)[0]
    assert bool(second.isfinite().all()), "a second derivative beside padding is not finite"


def steps_use_the_weights_of_now(of: Subject) -> None:
    """After a fused optimiser, which counts no version, and under weight norm, in evaluation."""
    unit = of.make(torch.float32).eval()
    x = sample(dtype=torch.float32)

    def compare() -> None:
        with torch.no_grad():
            whole, _ = unit(x)
            state = unit.initial_state(x)
            for time, token in enumerate(x.unbind(1)):
                y, state = unit.step(token, state)
                close(y, whole[:, time], 1e-4)

    with torch.no_grad():
        unit.step(x[:, 0], unit.initial_state(x))
    for parameter in unit.parameters():
        parameter.grad = torch.ones_like(parameter)
    if list(unit.parameters()):
        torch.optim.AdamW(unit.parameters(), lr=0.01, fused=True).step()
    unit.zero_grad()
    compare()
    normed(unit)
    with torch.no_grad():
        unit.step(x[:, 0], unit.initial_state(x))
        for name, parameter in unit.named_parameters():
            if "parametrizations" in name:
                parameter.mul_(1.25)
    compare()


def normed(unit: Unit) -> None:
    """Weight norm on every matrix."""
    for name, parameter in list(unit.named_parameters()):
        if parameter.ndim > 1:
            home, _, leaf = name.rpartition(".")
            parametrizations.weight_norm(unit.get_submodule(home), leaf)


def gradients_of_every_sample(unit: Unit, x: Tensor) -> None:
    """By functional_call and vmap over rows, beside those of each row alone."""
    parameters = {name: part.detach() for name, part in unit.named_parameters()}

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return torch.func.functional_call(unit, parameters, (row[None],))[0].square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    alone = [torch.autograd.grad(unit(row[None])[0].square().sum(), list(unit.parameters())) for row in x]
    for place, part in enumerate(each.values()):
        close(part, torch.stack([found[place] for found in alone]), 1e-8)


def functions_of_torch_take_it(of: Subject) -> None:
    """functional_call, vmap over rows, gradients of every sample, forward mode."""
    unit, x = of.make(), sample(batch=2, time=4)
    if list(unit.parameters()):
        gradients_of_every_sample(unit, x)
    direction = torch.ones_like(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own forward mode uses what torch calls deprecated
        forward: Any = torch.func.jvp(lambda x: unit(x)[0], (x,), (direction,))
    along = forward[1]
    there, back = unit(x + 1e-7 * direction)[0], unit(x - 1e-7 * direction)[0]  # across no kink
    close(along, (there - back) / 2e-7, 1e-5)


def a_unit_is_pickled_and_serves_two_threads(of: Subject) -> None:
    unit, x = of.make(), sample()
    expected = unit(x)
    close(pickle.loads(pickle.dumps(unit))(x), expected, 0)
    others = [sample(), 2 * sample(time=7)]
    alone = [unit(other) for other in others]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            close(tuple(pool.map(unit, others)), tuple(alone), 1e-12)


def one_thread_and_two_give_equal_numbers(of: Subject) -> None:
    unit, x = of.make(torch.float32), sample(batch=4, time=70, dtype=torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            with torch.no_grad():
                found.append(unit(x))
    finally:
        torch.set_num_threads(threads)
    close(found[0], found[1], 1e-6)


def frozen_weights_pass_gradients_on(of: Subject) -> None:
    unit, x = of.make().requires_grad_(False), sample().requires_grad_()
    found = torch.autograd.grad(unit(x)[0].sum(), x)[0]
    assert found.shape == (3, 11, WIDTH)
    assert bool(found.isfinite().all())


HABITS: tuple[Callable[[Subject], None], ...] = (
    y_is_never_the_memory_of_the_state,
    a_state_holds_its_own_numbers_only,
    every_parameter_gets_a_gradient,
    checkpointing_gives_the_same_gradients,
    second_derivatives_equal_those_of_steps,
    steps_use_the_weights_of_now,
    functions_of_torch_take_it,
    a_unit_is_pickled_and_serves_two_threads,
    one_thread_and_two_give_equal_numbers,
    frozen_weights_pass_gradients_on,
)
