"""Parts of a model that do not learn: without gradients, and in evaluation while the rest trains.

    freeze(model.encoder)          # until unfreeze(model.encoder)

`model.train()` alone would wake the dropout and the batch-norm statistics of a frozen part.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

from torch import nn

from core.errors import ConfigError

MARK = "stays_in_evaluation"


def freeze(module: nn.Module) -> nn.Module:
    """Keep a module as it is: no gradients, and `train` leaves it in evaluation. Gives the module."""
    module.requires_grad_(False)
    setattr(module, MARK, True)
    module.eval()
    return module


def unfreeze(module: nn.Module) -> nn.Module:
    """Let a module, and all inside it, learn again. Gives the module."""
    module.requires_grad_(True)
    for part in module.modules():
        if hasattr(part, MARK):
            delattr(part, MARK)
    return module


def train_mode(model: nn.Module) -> None:
    """Training mode for all but the frozen parts."""
    model.train()
    for module in model.modules():
        if getattr(module, MARK, False):
            module.eval()


def matching(model: nn.Module, patterns: Iterable[str], what: str) -> set[str]:
    """Names of the parameters that some pattern matches.

    Raises:
        ConfigError: a pattern matches none.
    """
    names = [name for name, _ in model.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if fnmatchcase(name, pattern)}
        if not matched:
            some = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
            raise ConfigError(f"{what} {pattern!r} matches no parameter; there are {some}.")
        found |= matched
    return found


@contextmanager
def held(model: nn.Module, frozen: set[str]) -> Iterator[None]:
    """Inside, parameters of these names do not learn, and modules without others stay in evaluation.

    After it everything learns that did before.
    """
    before = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(before[name] and name not in frozen)
    marked = still(model) if frozen else []
    for module in marked:
        setattr(module, MARK, True)
    try:
        yield
    finally:
        for module in marked:
            delattr(module, MARK)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])


def still(model: nn.Module) -> Sequence[nn.Module]:
    """Modules with parameters of which none learns, that are not marked yet."""
    return [
        module
        for module in model.modules()
        if not hasattr(module, MARK)
        and any(True for _ in module.parameters())
        and not any(parameter.requires_grad for parameter in module.parameters())
    ]
