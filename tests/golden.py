"""Golden entries: reference weights, inputs, outputs and gradients, one test case each.

`RECURRA_GOLDEN` names a folder with `<area>/manifest.json`; the default is the small set beside this file.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(os.environ.get("RECURRA_GOLDEN") or Path(__file__).parent / "golden")
PREFIXES = {
    "weights": ("w", "weight", "param"),
    "inputs": ("in", "input"),
    "outputs": ("out", "output"),
    "inside": ("a",),
}
"""How the areas mark what a tensor is."""


@dataclass(frozen=True)
class Entry:
    """One file of a golden set with its description."""

    area: str
    about: dict[str, Any]

    @property
    def file(self) -> str:
        return self.about["file"]

    @property
    def args(self) -> dict[str, Any]:
        """What the reference was built or called with."""
        return self.about.get("args") or self.about.get("constructor") or {}

    @property
    def key(self) -> str:
        """What was run: class, function, or the description of a definition."""
        about = self.about
        return about.get("cls") or about.get("function") or about.get("ref") or about.get("reference", "")

    def __str__(self) -> str:
        return f"golden:{self.area}/{self.file}"

    @property
    def path(self) -> Path:
        return ROOT / self.area / self.file

    def beside(self, key: str = "model_file") -> Path:
        """A file that the entry names beside itself."""
        return self.path.with_name(self.about[key])

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array of an .npz or .safetensors file, under its name."""
        if self.path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return load_file(self.path)
        with np.load(self.path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}

    def values(self) -> Any:
        """Content of a .json file."""
        return json.loads(self.path.read_text(encoding="utf-8"))

    def group(self, kind: str) -> dict[str, Tensor]:
        """Tensors of a kind, "weights", "inputs", "outputs" or "inside", without the prefix that says so.

        The areas write `w.`, `w/`, `weight.` or `param.`; a tensor called just `in` or `out` keeps its name.
        """
        found = {}
        for name, array in self.arrays().items():
            for prefix in PREFIXES[kind]:
                if name == prefix:
                    found[name] = torch.from_numpy(np.array(array))
                elif name.startswith((f"{prefix}.", f"{prefix}/")):
                    found[name[len(prefix) + 1 :]] = torch.from_numpy(np.array(array))
        return found

    def weights(self) -> dict[str, Tensor]:
        """The reference's state dict, tensors of several names under each of them."""
        found = self.group("weights")
        aliases = self.about.get("aliases") or {}
        return found | {alias: found[name] for alias, name in aliases.items()}

    def inputs(self) -> dict[str, Tensor]:
        return self.group("inputs")

    def outputs(self) -> dict[str, Tensor]:
        return self.group("outputs")

    def tolerance(self, default: float, name: str | None = None) -> float:
        """Absolute tolerance that the entry asks for, of one tensor where it tells them apart.

        Numbers stand in words such as "1e-4 absolute"; "exact" is 0.
        """
        told = self.about.get("tolerance", self.about.get("suggested_atol"))
        if isinstance(told, Mapping):
            told = told.get(name)
        if isinstance(told, int | float):
            return float(told)
        if isinstance(told, str):
            if told.startswith("exact"):
                return 0.0
            number = re.search(r"\d+(?:\.\d+)?e-?\d+|\d*\.\d+", told)
            if number:
                return float(number.group())
        return default


def entries(area: str, *scopes: str) -> list[Entry]:
    """Entries of an area, all or those of the named scopes."""
    manifest = json.loads((ROOT / area / "manifest.json").read_text())
    return [Entry(area, about) for about in manifest["files"] if not scopes or about.get("scope") in scopes]


Leaves = dict[str, Tensor]
Adapter = Callable[[Entry, Leaves], dict[str, Tensor]]
ADAPTERS: dict[str, Adapter] = {}


def reference(*prefixes: str) -> Callable[[Adapter], Adapter]:
    """Register an adapter for entries whose key starts with one of these; the longest prefix wins.

    An adapter gets the entry and its `param.*` and `in.*` tensors (leaves that carry gradients) and
    returns our outputs by their names `out.*`. It must compute with those very tensors, for example through
    `torch.func.functional_call`, so that the gradients can be compared.
    """

    def register(adapter: Adapter) -> Adapter:
        for prefix in prefixes:
            ADAPTERS[prefix] = adapter
        return adapter

    return register


def adapter_of(entry: Entry) -> Adapter:
    fitting = [prefix for prefix in ADAPTERS if entry.key.startswith(prefix)]
    assert fitting, f"nothing here computes {entry.key!r} ({entry.file})"
    return ADAPTERS[max(fitting, key=len)]


def check(entry: Entry, dtype: torch.dtype) -> None:
    """Compare outputs, states and every stored gradient at the tolerance of the manifest."""
    arrays = entry.arrays()
    tolerance = entry.about.get("tolerance") or (1e-5 if dtype == torch.float64 else 5e-5)
    leaves = {}
    for name, array in arrays.items():
        if name.startswith(("param.", "in.")):
            leaf = torch.from_numpy(np.array(array))
            leaf = leaf.to(dtype) if leaf.is_floating_point() else leaf
            leaves[name] = leaf.requires_grad_(f"grad.{name}" in arrays)
    outputs = adapter_of(entry)(entry, leaves)
    expected = {name for name in arrays if name.startswith("out.")}
    assert set(outputs) == expected, f"outputs {sorted(outputs)} but the file has {sorted(expected)}"
    loss = torch.zeros((), dtype=torch.float64)
    for name, ours in outputs.items():
        seen = torch.view_as_real(ours.resolve_conj()) if ours.is_complex() else ours
        close(seen, arrays[name], tolerance, f"{entry.file} {name}")
        cot = arrays.get(name.replace("out.", "cot.", 1))
        if cot is not None:
            cotangent = torch.from_numpy(np.array(cot)).to(dtype)
            if ours.is_complex():
                cotangent = torch.view_as_complex(cotangent.contiguous())
                loss = loss + (ours * cotangent).sum().real.double()
            else:
                loss = loss + (ours * cotangent).sum().double()
    wanted = [name for name in leaves if leaves[name].requires_grad]
    if wanted:
        gradients = torch.autograd.grad(loss, [leaves[name] for name in wanted], allow_unused=True)
        for name, gradient in zip(wanted, gradients, strict=True):
            gradient = torch.zeros_like(leaves[name]) if gradient is None else gradient
            close(gradient, arrays[f"grad.{name}"], tolerance, f"{entry.file} grad.{name}")


def close(ours: Tensor, expected: np.ndarray, tolerance: float, what: str) -> None:
    """|ours - expected| <= tolerance * (1 + max|expected|), and equal shapes."""
    found = ours.detach().double().numpy()
    wanted = np.asarray(expected, dtype=np.float64)
    assert found.shape == wanted.shape, f"{what}: shape {found.shape}, expected {wanted.shape}"
    if not wanted.size:
        return
    bound = tolerance * (1 + np.abs(wanted).max())
    worst = np.abs(found - wanted).max()
    assert worst <= bound, f"{what}: off by {worst:.3g}, allowed {bound:.3g}"
