"""Optimisers over the parameter groups that the units ask for."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from core.errors import ConfigError
from core.units.contract import Unit

MOMENTUM = 0.9  # of SGD; a run that wants another value wants another optimiser


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float, slow_factor: float = 1.0
) -> list[dict[str, Any]]:
    """Trainable parameters in up to three groups, named "decayed", "plain" and "slow".

    slow: what a unit lists in `slow`, at lr * slow_factor, never decayed. plain: what a unit lists in
    `no_decay`, and every parameter of fewer than two axes (biases, norms, gains). decayed: the rest.
    """
    slow = set(declared(model, "slow"))
    plain = set(declared(model, "no_decay"))
    members: dict[str, list[nn.Parameter]] = {"decayed": [], "plain": [], "slow": []}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in slow:
            members["slow"].append(parameter)
        elif id(parameter) in plain or parameter.ndim < 2:
            members["plain"].append(parameter)
        else:
            members["decayed"].append(parameter)
    return [
        {
            "name": name,
            "params": parameters,
            "lr": lr * (slow_factor if name == "slow" else 1.0),
            "weight_decay": weight_decay if name == "decayed" else 0.0,
        }
        for name, parameters in members.items()
        if parameters
    ]


def declared(model: nn.Module, attribute: str) -> Iterator[int]:
    """Ids of the parameters that units inside `model` list by name (a sub-module's name means all of it)."""
    for module in model.modules():
        if isinstance(module, Unit):
            names = getattr(module, attribute)
            for name, parameter in module.named_parameters(remove_duplicate=False):
                if any(name == listed or name.startswith(f"{listed}.") for listed in names):
                    yield id(parameter)


def build_optimizer(name: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """An optimiser by name over parameter groups that carry their own rate and decay.

    Raises:
        ConfigError: unknown name, or nothing to train.
    """
    if not groups:
        raise ConfigError("the model has no parameter to train; is everything frozen?")
    # One kernel for all parameters; it knows no complex numbers.
    fused = all(parameter.is_floating_point() for group in groups for parameter in group["params"])
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, fused=fused)
        case "sgd":
            return torch.optim.SGD(groups, momentum=MOMENTUM, fused=fused)
    raise ConfigError(f"no optimizer {name!r}; there are adam, adamw, sgd.")
