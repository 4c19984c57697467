"""Tensors into a module: by name, shape and kind, whole or in part."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import WeightsError

KeyMap = Callable[[str], str | None] | Sequence[tuple[str, str]]
"""Foreign name -> ours (None: leave this tensor out), or pairs (pattern, replacement) applied in order."""
MOST = 6
"""Problems that one message tells."""


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], rename: KeyMap | None = None) -> None:
    """Copy tensors into a module; either every name, shape and kind fits, or nothing is changed.

    Raises:
        WeightsError: names every tensor that is missing, left over, or of another shape or kind.
    """
    given = renamed(tensors, rename)
    wanted = module.state_dict()
    problems, hints = [], []
    for name in wanted.keys() & given.keys():
        theirs, ours = given[name], wanted[name]
        problem = misfit(name, theirs, ours)
        if problem:
            problems.append(problem)
        if theirs.shape != ours.shape:
            hints.append(shape_hint(name, theirs, ours))
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    problems.sort()
    if missing:
        problems.append(f"missing from the file: {some(missing)}")
    if unexpected:
        problems.append(f"unknown to the model: {some(unexpected)}")
    if problems:
        hints.append(name_hint(missing, unexpected))
        hint = next((hint for hint in hints if hint), "")
        more = f"; and {len(problems) - MOST} more" if len(problems) > MOST else ""
        raise WeightsError("; ".join(problems[:MOST]) + more + "." + hint)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(given[name])


@dataclass(frozen=True)
class Taken:
    """What `load_part` did with each tensor."""

    taken: tuple[str, ...]
    """Names in the module that were set."""
    missing: tuple[str, ...]
    """Names in the module that the file does not have: they stay as they were made."""
    unfit: tuple[str, ...]
    """One sentence for each name of both whose shape or kind differs."""
    unknown: tuple[str, ...]
    """Names of the file that the module does not have."""

    def __str__(self) -> str:
        text = f"{len(self.taken)} of {len(self.taken) + len(self.missing) + len(self.unfit)} tensors taken"
        for what, names in (
            ("new", self.missing),
            ("of another shape", self.unfit),
            ("unused", self.unknown),
        ):
            if names:
                shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
                text += f"; {what}: {shown}"
        return text + "."


def load_part(module: nn.Module, tensors: Mapping[str, Tensor], rename: KeyMap | None = None) -> Taken:
    """Copy every tensor that fits by name, shape and kind; the others of the module stay as they are.

    Raises:
        WeightsError: not one fits.
    """
    given, wanted = renamed(tensors, rename), module.state_dict()
    taken, unfit = [], []
    for name in wanted.keys() & given.keys():
        problem = misfit(name, given[name], wanted[name])
        if problem:
            unfit.append(problem)
        else:
            taken.append(name)
    missing = tuple(name for name in wanted if name not in given)
    unknown = tuple(name for name in given if name not in wanted)
    if not taken:
        reason = f" {sorted(unfit)[0]}." if unfit else name_hint(list(missing), list(unknown))
        raise WeightsError(f"not one of the file's {len(given)} tensors fits this network.{reason}")
    with torch.no_grad():
        for name in taken:
            wanted[name].copy_(given[name])
    return Taken(tuple(sorted(taken)), missing, tuple(sorted(unfit)), unknown)


def misfit(name: str, theirs: Tensor, ours: Tensor) -> str | None:
    """Why a tensor cannot be copied, if it cannot."""
    if theirs.shape != ours.shape:
        return f"{name} is {tuple(theirs.shape)} in the file, {tuple(ours.shape)} in the model"
    if not same_kind(theirs, ours):
        return f"{name} is {kind(theirs)} in the file, {kind(ours)} in the model"
    return None


def renamed(tensors: Mapping[str, Tensor], rename: KeyMap | None) -> dict[str, Tensor]:
    """Tensors under our names.

    Raises:
        WeightsError: two tensors would get one name.
    """
    if rename is None:
        return dict(tensors)
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        target: str | None = name
        if callable(rename):
            target = rename(name)
        else:
            for pattern, replacement in rename:
                target = re.sub(pattern, replacement, target)
        if target is None:
            continue
        if target in ours:
            raise WeightsError(f"the key map gives two tensors the name {target!r}; the second is {name!r}.")
        ours[target] = tensor
    return ours


def shape_hint(name: str, theirs: Tensor, ours: Tensor) -> str:
    """What a recurrent matrix (gates * H, H) of the wrong shape says about its network."""
    if "weight_hh" not in name or theirs.ndim != 2 or ours.ndim != 2 or not theirs.shape[1]:
        return ""
    gates, rest = divmod(theirs.shape[0], theirs.shape[1])
    unit = {1: "an Elman network", 3: "a GRU", 4: "an LSTM"}.get(gates)
    if rest or unit is None:
        return ""
    if gates * ours.shape[1] != ours.shape[0]:
        return f" Was it trained as {unit}?"
    return f" Its hidden width is {theirs.shape[1]}."


def name_hint(missing: list[str], unexpected: list[str]) -> str:
    """A prefix that explains all the names, if there is one."""
    if not missing or not unexpected:
        return ""
    prefix = unexpected[0].removesuffix(missing[0])
    if prefix != unexpected[0] and all(name.removeprefix(prefix) in missing for name in unexpected):
        return f" All its names begin with {prefix!r}; map them with ({prefix!r}, '')."
    return ""


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """No NaN and no infinity in any tensor, or a WeightsError that names the tensors."""
    bad = [
        name
        for name, tensor in tensors.items()
        if (tensor.is_floating_point() or tensor.is_complex()) and not tensor.detach().isfinite().all()
    ]
    if bad:
        raise WeightsError(f"{where}: {listed(bad)} not finite (NaN or infinity). Did the training diverge?")


def kind(tensor: Tensor) -> str:
    """The type of a tensor in a word."""
    return str(tensor.dtype).removeprefix("torch.")


def same_kind(theirs: Tensor, ours: Tensor) -> bool:
    """Whether copying keeps the meaning: real to real and complex to complex at any precision, else equal."""
    if theirs.is_complex() or ours.is_complex():
        return theirs.is_complex() and ours.is_complex()
    if theirs.is_floating_point() and ours.is_floating_point():
        return True
    return theirs.dtype == ours.dtype


def listed(names: Iterable[Any]) -> str:
    """Up to three names with the verb that follows."""
    names = [str(name) for name in names]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{shown} {'is' if len(names) == 1 else 'are'}"


def some(names: Sequence[str]) -> str:
    """The first names of many, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(name[:80] for name in names[:3]) + more
