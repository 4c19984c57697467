"""Pickles that name classes, read without importing any: classes become stand-ins that only know their name.

Checkpoints of PyLaia refer to its own classes and to lightning's, so torch's safe reader refuses them. Here a
tensor is put together from its bytes, an ordered dictionary is one, and whatever else a pickle names is a
stand-in: building or calling it runs nothing.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.errors import WeightsError

LARGEST = 4 << 30
KINDS = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class StandIn:
    """An instance of a class that was not imported; it takes every state and does nothing with it."""

    dotted = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "StandIn":
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.items: list[Any] = []

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Lists of unknown classes are filled like this."""

    def extend(self, items: Any) -> None:
        """As `append`."""


def named(value: Any) -> str:
    """The dotted name of a stand-in, or the value as text."""
    kind = value if isinstance(value, type) else type(value)
    return kind.dotted if issubclass(kind, StandIn) else str(value)


def tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """torch's `_rebuild_tensor_v2`, checked against the bytes that are there."""
    size, stride = tuple(int(n) for n in size), tuple(int(n) for n in stride)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else 0
    if offset < 0 or min((*size, *stride), default=0) < 0 or last >= max(len(storage), 1):
        raise ValueError("a tensor reaches beyond its storage")
    return torch.as_strided(storage, size, stride, offset).clone()


def parameter(data: Tensor, *_: Any) -> Tensor:
    """torch's `_rebuild_parameter`: its data."""
    return data


class StateUnpickler(pickle.Unpickler):
    """Unpickles with stand-ins; tensors come from the archive's members."""

    def __init__(self, data: bytes, storages: Mapping[str, bytes]) -> None:
        super().__init__(io.BytesIO(data))
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): tensor,
            ("torch._utils", "_rebuild_parameter"): parameter,
        }
        if (module, name) in known:
            return known[module, name]
        return type("StandIn", (StandIn,), {"dotted": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Tensor:
        _, kind, key, _, count = pid
        dtype = KINDS.get(named(kind).rpartition(".")[2])
        if dtype is None or str(key) not in self.storages:
            raise ValueError("an unknown kind of tensor")
        data = self.storages[str(key)]
        size = torch.empty((), dtype=dtype).element_size()
        if count < 0 or count * size > len(data):
            raise ValueError("a tensor is longer than its bytes")
        flat = torch.from_numpy(np.frombuffer(data, np.uint8, count * size).copy())
        return flat.view(dtype) if count else torch.empty(0, dtype=dtype)


def read_pickle(path: Path) -> Any:
    """What a file of `torch.save` holds (the format since torch 1.6, a zip archive).

    Raises:
        WeightsError: missing, damaged, too large, or of another format.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise WeightsError(f"{path}: unpacks to more than {LARGEST:,} bytes.")
            inside = {member.filename: member for member in archive.infolist()}
            main = next((name for name in inside if name.endswith("/data.pkl") or name == "data.pkl"), None)
            if main is None:
                raise WeightsError(f"{path}: not a file of torch.")
            root = main.removesuffix("data.pkl") + "data/"
            storages = {
                name.removeprefix(root): archive.read(member)
                for name, member in inside.items()
                if name.startswith(root)
            }
            return StateUnpickler(archive.read(main), storages).load()
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path}: not a file of torch 1.6 or later.") from error
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise WeightsError(
            f"{path}: a damaged pickle ({type(error).__name__}: {str(error)[:80]})."
        ) from error
