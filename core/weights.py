"""Weights on disk: safetensors with a card of where they come from, foreign state dicts, bundled files.

    save("model.safetensors", model, Card(task="trajectory", unit="gru", ...))
    tensors, card = load("model.safetensors")
    load_into(model, tensors)

Reading never runs code from a file, and whatever is wrong with one is a WeightsError in one sentence.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from core.bundled import bundled, check_index, find, first_line
from core.errors import WeightsError
from core.files import whole_file, write_text

__all__ = ["Card", "bundled", "find", "load", "load_into", "load_torch", "save", "write_index"]

VERSION = 1
"""Of the metadata below; a reader refuses a newer one."""
LARGEST = 4 << 30
"""Bytes a weights file may have: above every network here, below what would exhaust a laptop."""

KeyMap = Callable[[str], str | None] | Sequence[tuple[str, str]]
"""Foreign name -> ours (None: leave this tensor out), or pairs (pattern, replacement) applied in order."""


@dataclass(frozen=True)
class Card:
    """What is known about a set of weights; travels inside the file."""

    task: str
    """What the weights are for, such as "trajectory"."""
    unit: str
    """The recurrent unit or the network."""
    data: str
    """What they were trained on, in words."""
    terms: str
    """The terms of that data."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Every setting of the run; enough to build the network again."""
    score: dict[str, float] = field(default_factory=dict)
    commit: str = "unknown"
    extra: dict[str, Any] = field(default_factory=dict)
    """What a domain needs beside the tensors: calibration, normalisation, an alphabet."""


def save(path: str | Path, source: nn.Module | Mapping[str, Tensor], card: Card) -> None:
    """Write weights and card, whole or not at all. Tied tensors are stored once, loaded under each name.

    Raises:
        WeightsError: a value is not finite, or there is nothing to write.
        RecurraError: the file cannot be written.
    """
    named = source.state_dict() if isinstance(source, nn.Module) else source
    check_finite(named, "Not saved")
    kept: dict[str, Tensor] = {}
    owners: dict[tuple[Any, ...], str] = {}
    tied: dict[str, str] = {}
    for name, tensor in named.items():
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in owners:
            tied[name] = owners[place]
        else:
            owners[place] = name
            kept[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    if not kept:
        raise WeightsError(f"{path}: there is not one tensor to save.")
    metadata = {"recurra": str(VERSION), "card": json.dumps(asdict(card)), "tied": json.dumps(tied)}
    with whole_file(path) as partial:
        partial.write_bytes(to_safetensors(kept, metadata))


def load(path: str | Path) -> tuple[dict[str, Tensor], Card]:
    """Tensors by name, on the CPU, and the card. A bundled file is checked against its index first.

    Raises:
        WeightsError: missing, truncated, foreign, altered or too large; a value is not finite.
    """
    path = Path(path)
    data = read(path)
    check_index(path, data)
    return parse(path, data)


def read(path: Path) -> bytes:
    """The bytes of a file of sensible size."""
    check_size(path, LARGEST)
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}).") from error


def parse(path: Path, data: bytes) -> tuple[dict[str, Tensor], Card]:
    """Tensors and card from the bytes of a file; `path` is for messages."""
    try:
        tensors = parse_safetensors(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise WeightsError(f"{path}: not a complete safetensors file ({first_line(error)}).") from error
    metadata = header.get("__metadata__") or {}
    if "recurra" not in metadata:
        raise WeightsError(f"{path}: holds tensors but no card of ours. Is it from another program?")
    version = metadata["recurra"]
    if version != str(VERSION):
        raise WeightsError(
            f"{path}: its format is {version[:20]!r}, ours {VERSION}. Is it from a newer Recurra?"
        )
    try:
        card = card_from(json.loads(metadata["card"]))
        for name, owner in json.loads(metadata.get("tied", "{}")).items():
            tensors[name] = tensors[owner]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path}: its card is damaged ({first_line(error)}).") from error
    check_finite(tensors, str(path))
    return tensors, card


def card_from(values: Mapping[str, Any]) -> Card:
    """A card from parsed JSON; every field must be of its kind."""
    for about in fields(Card):
        wanted = dict if about.name in ("settings", "score", "extra") else str
        if about.name in values and not isinstance(values[about.name], wanted):
            raise TypeError(f"{about.name} should be {wanted.__name__}")
    return Card(**values)


def load_torch(path: str | Path, largest: int = LARGEST) -> dict[str, Tensor]:
    """The state dict of a foreign `.pth`/`.pt` file, as it is or under "state_dict" or "model".

    Raises:
        WeightsError: missing, damaged, too large, asks to run code, or not a state dict.
    """
    path = Path(path)
    check_size(path, largest)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:  # a small file may unpack to a huge one
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > largest:
            raise WeightsError(f"{path}: unpacks to {unpacked:,} bytes; the limit is {largest:,}.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can raise anything
        reason = first_line(error)
        if "weights_only" in str(error) or "Weights only" in str(error):
            reason = "it is damaged, or holds objects that would run code; save a plain state dict instead"
        raise WeightsError(f"{path}: not a readable torch file ({reason}).") from error
    for wrapping in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapping), Mapping):
            found = found[wrapping]
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f"{path}: holds {type(found).__name__}, not a state dict of named tensors.")
    odd = [name for name, value in found.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if odd:
        raise WeightsError(f"{path}: {listed(odd)} not a named tensor, so this is not a state dict.")
    check_finite(found, str(path))
    return dict(found)


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
        if theirs.shape != ours.shape:
            problems.append(f"{name} is {tuple(theirs.shape)} in the file, {tuple(ours.shape)} in the model")
            hints.append(shape_hint(name, theirs, ours))
        elif not same_kind(theirs, ours):
            problems.append(f"{name} is {kind(theirs)} in the file, {kind(ours)} in the model")
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    problems.sort()
    if missing:
        problems.append(f"missing from the file: {', '.join(missing)}")
    if unexpected:
        problems.append(f"unknown to the model: {', '.join(unexpected)}")
    if problems:
        hints.append(name_hint(missing, unexpected))
        hint = next((hint for hint in hints if hint), "")
        raise WeightsError("; ".join(problems) + "." + hint)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(given[name])


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


def write_index(folder: str | Path) -> None:
    """Make `index.json` of a package's `weights/` folder from the files in it."""
    rows = []
    for path in sorted(Path(folder).glob("*.safetensors")):
        data = read(path)
        tensors, card = parse(path, data)
        rows.append(
            {
                "name": path.stem,
                "file": path.name,
                "task": card.task,
                "unit": card.unit,
                "parameters": sum(tensor.numel() for tensor in tensors.values()),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "score": ", ".join(f"{name} {value:.4g}" for name, value in card.score.items()),
                "data": card.data,
                "terms": card.terms,
            }
        )
    write_text(Path(folder) / "index.json", json.dumps({"models": rows}, indent=2) + "\n")


def check_size(path: Path, largest: int) -> None:
    """The file exists and is not larger than we are ready to read."""
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weights file.")
    size = path.stat().st_size
    if size > largest:
        raise WeightsError(f"{path}: {size:,} bytes; the limit for weights is {largest:,}.")


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
