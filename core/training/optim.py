"""Optimisers by name or dotted path, over the parameter groups that units and a person ask for."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.training.frozen import matching
from core.training.options import GroupOptions, LoopOptions
from core.units.contract import Unit

KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "adadelta": ("torch.optim:Adadelta", {}),
    "adagrad": ("torch.optim:Adagrad", {}),
    "adam": ("torch.optim:Adam", {}),
    "adamw": ("torch.optim:AdamW", {}),
    "muon": ("core.training.muon:Muon", {"adjust_lr_fn": "match_rms_adamw"}),
    "nadam": ("torch.optim:NAdam", {}),
    "rmsprop": ("torch.optim:RMSprop", {}),
    "sgd": ("torch.optim:SGD", {"momentum": 0.9}),
    "sparse_adam": ("torch.optim:SparseAdam", {}),
}
"""Name -> class, and the options that differ from its own defaults."""
OURS = ("params", "lr", "weight_decay")
"""Options that the loop sets."""


def parameter_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    slow_factor: float = 1.0,
    groups: Sequence[GroupOptions] = (),
) -> list[dict[str, Any]]:
    """Trainable parameters in up to three groups, "decayed", "plain", "slow", for the rest and each pattern.

    slow: what a unit lists in `slow`, at lr * slow_factor, never decayed. plain: what a unit lists in
    `no_decay`, and every parameter of fewer than two axes (biases, norms, gains). decayed: the rest.
    A rate or a decay that a pattern names goes to all that it matches. Its groups are "<pattern> decayed" and
    so on; those of another optimiser carry its "optimizer" and "options".

    Raises:
        ConfigError: a pattern matches no parameter that learns and that no earlier pattern has.
    """
    slow = set(declared(model, "slow"))
    plain = set(declared(model, "no_decay"))
    owners: list[GroupOptions | None] = [None, *groups]
    members: dict[tuple[int, str], list[nn.Parameter]] = {
        (owner, kind): [] for owner in range(len(owners)) for kind in ("decayed", "plain", "slow")
    }
    matching(model, (group.pattern for group in groups), "the parameter group")
    for name, parameter in model.named_parameters():
        owner = next((i for i, group in enumerate(groups, 1) if fnmatchcase(name, group.pattern)), 0)
        if not parameter.requires_grad:
            continue
        if id(parameter) in slow:
            kind = "slow"
        elif id(parameter) in plain or parameter.ndim < 2:
            kind = "plain"
        else:
            kind = "decayed"
        members[owner, kind].append(parameter)
    found = []
    for (owner, kind), parameters in members.items():
        group = owners[owner]
        rate = lr * (slow_factor if kind == "slow" else 1.0)
        decay = weight_decay if kind == "decayed" else 0.0
        row: dict[str, Any] = {"name": kind, "params": parameters, "lr": rate, "weight_decay": decay}
        if group is not None:
            row["name"] = f"{group.pattern} {kind}"
            row |= {"lr": rate if group.lr is None else group.lr}
            row |= {"weight_decay": decay if group.decay is None else group.decay}
            if group.optimizer is not None:
                row |= {"optimizer": group.optimizer, "options": group.options}
        if parameters:
            found.append(row)
    for owner, group in enumerate(groups, 1):
        if not group.freeze and not any(members[owner, kind] for kind in ("decayed", "plain", "slow")):
            raise ConfigError(
                f"the parameter group {group.pattern!r} is left without parameters: an earlier pattern has "
                "them, or they do not learn."
            )
    return found


def declared(model: nn.Module, attribute: str) -> Iterator[int]:
    """Ids of the parameters that units inside `model` list by name (a sub-module's name means all of it)."""
    for module in model.modules():
        if isinstance(module, Unit):
            names = getattr(module, attribute)
            for name, parameter in module.named_parameters(remove_duplicate=False):
                if any(name == listed or name.startswith(f"{listed}.") for listed in names):
                    yield id(parameter)


def build_optimizers(model: nn.Module, options: LoopOptions) -> list[torch.optim.Optimizer]:
    """The run's optimiser, and those of parameter groups that want another.

    Raises:
        ConfigError: unknown names or options, a pattern that matches nothing, or nothing to train.
    """
    wanted = options.learner
    groups = parameter_groups(model, options.lr, options.weight_decay, options.slow_factor, [*wanted.groups])
    if not groups:
        raise ConfigError("the model has no parameter to train; is everything frozen?")
    shared: dict[str, tuple[str, Mapping[str, Any], list[dict[str, Any]]]] = {}
    for group in groups:
        name, extra = group.pop("optimizer", wanted.name), group.pop("options", wanted.options)
        shared.setdefault(f"{name} {sorted(extra.items())}", (name, extra, []))[2].append(group)
    explicit = any(group.decay for group in wanted.groups)
    return [build_optimizer(name, groups, extra, explicit) for name, extra, groups in shared.values()]


def build_optimizer(
    name: str,
    groups: list[dict[str, Any]],
    options: Mapping[str, Any] | None = None,
    decay_wanted: bool = False,
) -> torch.optim.Optimizer:
    """An optimiser by name or "package.module:Class", over groups that carry their own rate and decay.

    Args:
        decay_wanted: refuse an optimiser that knows no weight decay, instead of leaving decay out.

    Raises:
        ConfigError: unknown name or option, an option of the wrong kind, or nothing to train.
    """
    if not groups:
        raise ConfigError("the model has no parameter to train; is everything frozen?")
    target, preset = KNOWN.get(name, (name, {}))
    built = load_class(name, target)
    known = {
        option: parameter
        for option, parameter in inspect.signature(built).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    given = {**preset, **(options or {})}
    refuse_unknown(name, known, given)
    if "weight_decay" not in known:
        if decay_wanted and any(group["weight_decay"] for group in groups):
            raise ConfigError(f"the optimizer {name} knows no weight decay; leave decay out of its group.")
        groups = [{key: value for key, value in group.items() if key != "weight_decay"} for group in groups]
    if "fused" in known and not {"fused", "foreach", "differentiable"} & given.keys():
        # One kernel for all parameters; it knows no complex numbers.
        given["fused"] = fusable(groups)
    if given.get("fused") is False:
        del given["fused"]
    try:
        return built(groups, lr=groups[0]["lr"], **given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"the optimizer {name} refuses its options: {error}") from error


def load_class(name: str, target: str) -> Any:
    """The class behind a name.

    Raises:
        ConfigError: there is none, it is no optimiser, or one that wants the loss several times a step.
    """
    module, _, attribute = target.partition(":")
    if not attribute:
        close = get_close_matches(name, KNOWN, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(
            f"no optimizer {name!r}; there are {', '.join(KNOWN)}, or write package.module:Class.{hint}"
        )
    try:
        built = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"the optimizer {name!r} cannot be imported ({error}).") from error
    if not (isinstance(built, type) and issubclass(built, torch.optim.Optimizer)):
        raise ConfigError(f"{name!r} is no optimizer: it should be a class below torch.optim.Optimizer.")
    closure = inspect.signature(built.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ConfigError(
            f"the optimizer {name} wants the loss several times a step, which the loop cannot give."
        )
    return built


def refuse_unknown(name: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Every option is one that the class has and the loop leaves to it."""
    for option in given:
        if option in OURS:
            raise ConfigError(f"set {option} of the loop, or of a parameter group, not of the optimizer.")
        if option not in known:
            offered = sorted(set(known) - set(OURS))
            close = get_close_matches(option, offered, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(
                f"the optimizer {name} has no option {option!r}; it has {', '.join(offered)}.{hint}"
            )


def fusable(groups: list[dict[str, Any]]) -> bool:
    """Whether one kernel may update all: real numbers on the CPU or a GPU."""
    return all(
        parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda")
        for group in groups
        for parameter in group["params"]
    )


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale all gradients, dense and sparse, so that the norm over all is at most `largest`."""
    given = [parameter for parameter in parameters if parameter.grad is not None]
    if not any(parameter.grad.is_sparse for parameter in given if parameter.grad is not None):
        nn.utils.clip_grad_norm_(given, largest)
        return
    values: list[Tensor] = []
    for parameter in given:
        assert parameter.grad is not None
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()  # the same row may be in it several times
            values.append(parameter.grad._values())
        else:
            values.append(parameter.grad)
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(value) for value in values]))
    for value in values:
        value.mul_((largest / (norm + 1e-6)).clamp(max=1.0))
