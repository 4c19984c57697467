"""Weights on disk: safetensors with a card of where they come from, foreign state dicts, bundled files.

    save("model.safetensors", model, Card(task="trajectory", unit="gru", ...))
    tensors, card = load("model.safetensors")
    load_into(model, tensors)

Reading never runs code from a file, and whatever is wrong with one is a WeightsError in one sentence.
"""

import hashlib
import json
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from core.bundled import bundled, check_index, find
from core.door import LARGEST, read, safetensors, safetensors_mapped, state_dict
from core.errors import ConfigError, UnfinishedWarning, WeightsError
from core.files import in_words, whole_file, write_text
from core.fitting import KeyMap, Taken, check_finite, load_into, load_part
from core.text import first_line

__all__ = [
    "Card",
    "KeyMap",
    "Loaded",
    "Taken",
    "bundle",
    "bundled",
    "find",
    "load",
    "load_into",
    "load_network",
    "load_part",
    "load_torch",
    "network_for",
    "save",
    "write_index",
]

VERSION = 1
"""Of the metadata below; a reader refuses a newer one."""
UNFINISHED = "unfinished"
"""Key of `Card.extra` of a run that still goes on, such as one whose calibration comes last: why it does."""
ABOUT = "about"
"""Key of `Card.extra`: further facts in a word or two, for `recurra models`."""
COLUMNS = ("name", "file", "task", "unit", "parameters", "bytes", "sha256", "score", "data", "terms")
"""What every row of an index has."""
BUNDLED = 4_000_000
"""Bytes that one bundled file may have: the whole package stays small."""
SLACK = 4_000_000
"""Numbers of buffers that a network makes of its settings, such as windows: beyond those of its file."""
N = TypeVar("N", bound=nn.Module)


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
        partial.write_bytes(in_order(to_safetensors(kept, metadata)))


def in_order(data: bytes) -> bytes:
    """The same file with its metadata sorted (the library shuffles it): equal weights are equal bytes."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def load(path: str | Path, mapped: bool = False) -> tuple[dict[str, Tensor], Card]:
    """Tensors by name, on the CPU, and the card. A bundled file is checked against its index first.

    Args:
        mapped: leave the tensors in the file, see `core.door.safetensors_mapped`; bundled ones are read.

    Raises:
        WeightsError: missing, truncated, foreign, altered or too large; a value is not finite.
    """
    path = Path(path)
    if mapped and not (path.parent / "index.json").is_file():
        return carded(path, *safetensors_mapped(path))
    data = read(path)
    check_index(path, data)
    return parse(path, data)


def parse(path: Path, data: bytes) -> tuple[dict[str, Tensor], Card]:
    """Tensors and card from the bytes of a file; `path` is for messages."""
    return carded(path, *safetensors(path, data))


def carded(
    path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]
) -> tuple[dict[str, Tensor], Card]:
    """Tensors with the card that their metadata hold."""
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
        WeightsError: missing, damaged, too large, asks to run code, not a state dict, or not finite.
    """
    found = state_dict(path, largest)
    check_finite(found, str(path))
    return found


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
                **further(card),
            }
        )
    write_text(Path(folder) / "index.json", json.dumps({"models": rows}, indent=2) + "\n")


def further(card: Card) -> dict[str, str]:
    """What a card tells about its weights beside the columns of every row."""
    about = card.extra.get(ABOUT, {})
    return {key: str(value) for key, value in about.items() if key not in COLUMNS}


@dataclass(frozen=True)
class Loaded:
    """A network that is ready to answer, with the card of its weights."""

    network: nn.Module
    card: Card
    name: str
    """As it was asked for: a bundled name, or the name of the file or folder."""
    path: Path


def load_network(
    weights: str | Path,
    task: str | Sequence[str],
    build: Callable[[Card], nn.Module],
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Loaded:
    """The network of a bundled name, a weights file or a run folder, in evaluation; kept for the next call.

    Args:
        task: what the card must say it is for, one word or several.
        build: card -> the network without its weights, a function of a module; ConfigError where the settings
            of the card are not its own.

    Weights of a run that is not finished are an UnfinishedWarning.

    Raises:
        WeightsError: nothing there, damaged, for another task, or its card asks for a network that its
            tensors do not fill.
    """
    path = find(weights)
    tasks = (task,) if isinstance(task, str) else tuple(task)
    about = path.stat()
    loaded = kept(
        path, Path(weights).name, about.st_mtime_ns, about.st_size, tasks, build, str(device), dtype
    )
    if UNFINISHED in loaded.card.extra:
        why = loaded.card.extra[UNFINISHED]
        reason = f"{path}: their training is not finished ({why}); go on with resume=True."
        warnings.warn(reason, UnfinishedWarning, stacklevel=2)
    return loaded


@lru_cache(maxsize=8)
def kept(
    path: Path,
    name: str,
    changed_ns: int,
    size: int,
    tasks: tuple[str, ...],
    build: Callable[[Card], nn.Module],
    device: str,
    dtype: torch.dtype,
) -> Loaded:
    """`load_network` once for each state of the file: its time and size make the cache notice a new run."""
    tensors, card = load(path)
    if card.task not in tasks:
        raise WeightsError(f"{path}: weights for {card.task[:60]!r}, not for {' or '.join(tasks)}.")
    network = network_for(path, tensors, lambda: build(card))
    return Loaded(network.to(device, dtype).eval(), card, name, path)


def network_for(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    make: Callable[[], N],
    fill: Callable[[N, Mapping[str, Tensor]], Any] = load_into,
) -> N:
    """The network that `make` builds, filled with the tensors of a file; built only where they fit.

    A card of a few bytes could ask for more memory and time than the machine has. So the network is first
    made without memory, its numbers counted while it grows, its names and shapes compared with the file's.

    Args:
        fill: copies the tensors into the network, or raises WeightsError.

    Raises:
        WeightsError: the settings are not the network's, or its tensors are not those of the file.
    """
    numbers = 4 * sum(tensor.numel() for tensor in tensors.values()) + SLACK
    try:
        with limited(path, numbers, 4 * len(tensors) + 100):
            with torch.device("meta"), Outlined():
                plan = make()
            fill(plan, tensors)
            network = make()
        fill(network, tensors)
        return network
    except WeightsError as error:
        raise error if str(path) in str(error) else WeightsError(f"{path}: {error}") from error
    except ConfigError as error:
        raise WeightsError(f"{path}: its settings are not ours ({error})") from error
    except (
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        ValueError,
        MemoryError,
        RuntimeError,
    ) as error:
        raise WeightsError(f"{path}: no network can be built from its card ({first_line(error)}).") from error


class Outlined(TorchFunctionMode):
    """Inside, tensors without memory are not drawn or computed where the answer looks like the question.

    torch's own answer for these loads its compiler: 160 MB and a second of every process that opens weights.
    """

    SAME = frozenset({"normal_", "exp", "log", "neg", "clamp", "clamp_"})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*args, *(kwargs or {}).values()]  # torch.nn.init hands its tensor on by name
        name, tensors = getattr(func, "__name__", ""), [part for part in given if isinstance(part, Tensor)]
        if name in self.SAME and len(tensors) == 1 and tensors[0] is given[0] and tensors[0].is_meta:
            return tensors[0] if name.endswith("_") else torch.empty_like(tensors[0])
        return func(*args, **(kwargs or {}))


@contextmanager
def limited(path: str | Path, numbers: int, tensors: int) -> Iterator[None]:
    """Inside, what this thread makes of modules may have so many numbers and tensors, else WeightsError."""
    thread, counted = threading.get_ident(), {"numbers": 0, "tensors": 0}

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        if tensor is None or threading.get_ident() != thread:
            return
        counted["numbers"] += tensor.numel()
        counted["tensors"] += 1
        if counted["numbers"] > 2 * numbers or counted["tensors"] > 2 * tensors:  # made twice
            raise WeightsError(f"{path}: its card asks for a larger network than its tensors fill.")

    hooks = (
        nn.modules.module.register_module_parameter_registration_hook(count),
        nn.modules.module.register_module_buffer_registration_hook(count),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def bundle(
    run: str | Path,
    folder: str | Path,
    name: str,
    *,
    score: Mapping[str, float] | None = None,
    data: str | None = None,
    terms: str | None = None,
    about: Mapping[str, str] | None = None,
    half: bool = True,
    most: int = BUNDLED,
) -> Path:
    """Put the best weights of a run into a package's `weights/` folder and list them in its index.

    Args:
        score: figures for `recurra models`, data and terms: in place of those of the card.
        about: further facts for the table, such as {"language": "French", "period": "1700-1900"}.
        half: store the numbers in half precision; they are computed with in single.

    Raises:
        WeightsError: no weights there, or the file would be larger than `most` bytes.
    """
    source = find(run)
    tensors, card = load(source)
    if half:
        tensors = {
            key: tensor.half() if tensor.dtype in (torch.float32, torch.float64) else tensor
            for key, tensor in tensors.items()
        }
    extra = {**card.extra, ABOUT: {**card.extra.get(ABOUT, {}), **(about or {})}}
    card = replace(
        card,
        score=dict(score) if score is not None else card.score,
        data=data or card.data,
        terms=terms or card.terms,
        extra=extra if extra[ABOUT] else card.extra,
    )
    folder = Path(folder)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if size > most:
        raise WeightsError(
            f"{source}: {in_words(size)} of tensors; a bundled file may have {in_words(most)}. "
            "Store it in half precision or make the network smaller."
        )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.safetensors"
    save(target, tensors, card)
    write_index(folder)
    return target
