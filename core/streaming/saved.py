"""Weights, recurrent state, optimiser and facts of a learner in one file, written whole or not at all.

Three files that disagree after a kill are no state to go on from; one safetensors file is.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from core.door import safetensors
from core.errors import DataError, WeightsError
from core.files import whole_file

KIND = "recurra_learner"


def save(
    path: str | Path,
    model: nn.Module,
    state: Any = None,
    optimizer: Optimizer | None = None,
    extra: Any = None,
) -> None:
    """Write a learner; `load` puts it back.

    Args:
        state: the recurrent state, as `core.state` has it.
        extra: facts that JSON can hold.
    """
    parts: dict[str, Tensor] = {}

    def kept(value: Any, name: str) -> Any:
        """The value with tensors replaced by their names."""
        if isinstance(value, Tensor):
            parts[name] = value.detach().cpu().contiguous().clone()
            return {"tensor": name}
        if isinstance(value, dict):
            pairs = [[key, kept(inner, f"{name}.{key}")] for key, inner in value.items()]
            return {"dict": pairs}
        if isinstance(value, list | tuple):
            inner = [kept(part, f"{name}.{place}") for place, part in enumerate(value)]
            return {"tuple" if isinstance(value, tuple) else "list": inner}
        return {"value": value}

    whole = {
        "model": kept(dict(model.state_dict()), "model"),
        "state": kept(state, "state"),
        "optimizer": kept(None if optimizer is None else optimizer.state_dict(), "optimizer"),
        "extra": extra,
    }
    with whole_file(path) as partial:
        save_file(parts, partial, metadata={KIND: json.dumps(whole)})


def load(path: str | Path, model: nn.Module, optimizer: Optimizer | None = None) -> tuple[Any, Any]:
    """Put weights and optimiser back in place; returns the recurrent state and the facts.

    Raises:
        DataError: the file is missing, damaged, or not written by `save`.
        WeightsError: weights or optimiser of another model; then neither is changed.
    """
    try:
        parts, metadata = safetensors(path)
        whole = json.loads(metadata[KIND])
        found = {name: back(whole[name], parts) for name in ("model", "state", "optimizer")}
    except (WeightsError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not a saved learner ({error})") from error
    own = model.state_dict()
    given = found["model"]
    odd = [name for name in {*own, *given} if name not in own or name not in given]
    odd += [name for name in own if name in given and own[name].shape != given[name].shape]
    if odd:
        raise WeightsError(f"{path}: the weights are of another model, see {sorted(odd)[0]}")
    if optimizer is not None:
        if found["optimizer"] is None:
            raise WeightsError(f"{path}: no optimiser was saved")
        try:
            optimizer.load_state_dict(found["optimizer"])
        except ValueError as error:
            raise WeightsError(f"{path}: the optimiser is of another model ({error})") from error
    with torch.no_grad():
        model.load_state_dict(given)
    return found["state"], whole["extra"]


def back(kept: Any, parts: dict[str, Tensor]) -> Any:
    """The inverse of what `save` does to a value."""
    (kind, value), *_ = kept.items()
    if kind == "tensor":
        return parts[value]
    if kind == "dict":
        return {key: back(inner, parts) for key, inner in value}
    if kind in ("list", "tuple"):
        inner = [back(part, parts) for part in value]
        return tuple(inner) if kind == "tuple" else inner
    return value
