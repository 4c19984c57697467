"""The one door for tensors and arrays of files: weights, published checkpoints, run states, statistics.

Strangers' files are not believed. Each step is cheap and comes before the next: the size of the file and of
what it unpacks to, the names and shapes that its header claims, and only then memory. No code of a file is
run, and no other module calls the readers of torch, numpy or safetensors.
"""

import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from core.errors import RecurraError, WeightsError
from core.files import in_words, read_bytes
from core.text import first_line, shown

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 4 << 30
"""Bytes a weights file may have: above every network here, below what would exhaust a laptop."""
HEADER = 8 << 20
"""Bytes of names and shapes: some fifty thousand tensors."""
TENSORS, AXES, NAME = 10_000, 8, 200
"""Most tensors of a file, axes of one, characters of its name."""
ARRAYS = 1000
"""Most arrays of a `.npz` file."""
Source = Path | bytes


def check_size(path: Path, largest: int) -> None:
    """Whether a file exists and is not larger than we are ready to read.

    Raises:
        WeightsError: it is not.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such weights file.")
    size = path.stat().st_size
    if size > largest:
        raise WeightsError(f"{path}: {size:,} bytes; the limit for weights is {largest:,}.")


def read(path: str | Path, largest: int = LARGEST) -> bytes:
    """The bytes of a weights file of sensible size.

    Raises:
        WeightsError: missing, no regular file, not readable or too large.
    """
    path = Path(path)
    check_size(path, largest)
    return read_bytes(path, largest, unpack=False, error=WeightsError)


def safetensors(path: str | Path, data: bytes | None = None) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """Tensors on the CPU and metadata of a safetensors file.

    Args:
        data: its bytes, where they are read already; then `path` is for messages.

    Raises:
        WeightsError: missing, damaged, or its header claims what no network here has.
    """
    from safetensors.torch import load

    return parsed(Path(path), data, load)


def safetensors_mapped(path: str | Path) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """The same tensors, memory-mapped: pages are read when they are needed, and shared by all processes.

    The file must be replaced, never written into, while anybody has it.

    Raises:
        WeightsError: as for tensors that are read.
    """
    from safetensors.torch import load_file

    path = Path(path)
    check_size(path, LARGEST)
    try:
        with path.open("rb") as file:
            head = file.read(8)
            head += file.read(min(int.from_bytes(head, "little"), HEADER))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}).") from error
    return parsed(path, head, lambda _: load_file(path))


def safetensors_arrays(
    path: str | Path, data: bytes | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The same as arrays of numpy, without torch.

    Raises:
        WeightsError: as for tensors.
    """
    from safetensors.numpy import load

    return parsed(Path(path), data, load)


def parsed(path: Path, data: bytes | None, load: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """What a reader of safetensors gives, after the header was looked at."""
    data = read(path) if data is None else data
    size = int.from_bytes(data[:8], "little")
    if HEADER < size < len(data):
        raise WeightsError(
            f"{path}: a header of {in_words(size)}; weights here have less than {in_words(HEADER)}."
        )
    try:
        header = json.loads(data[8 : 8 + size]) if size <= HEADER else {}
        metadata = header.pop("__metadata__", None) or {}
        check_header(path, {name: about["shape"] for name, about in header.items()})
        tensors = load(data)
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        RecursionError,
    ) as error:
        raise WeightsError(f"{path}: not a complete safetensors file ({first_line(error)}).") from error
    return tensors, {str(key): str(value) for key, value in metadata.items()}


def check_header(path: Path, shapes: Mapping[Any, Any]) -> None:
    """Names and shapes that a network can have.

    Raises:
        WeightsError: too many tensors, or one with an odd name or too many axes.
    """
    if len(shapes) > TENSORS:
        raise WeightsError(f"{path}: {len(shapes):,} tensors; a network here has at most {TENSORS:,}.")
    for name, shape in shapes.items():
        if not name or len(name) > NAME or not name.isprintable():
            raise WeightsError(f"{path}: a tensor called '{shown(name, 60)}', which is no name.")
        if len(shape) > AXES:
            raise WeightsError(f"{path}: {name[:80]} has {len(shape)} axes.")


def torch_file(path: str | Path, largest: int = LARGEST) -> Any:
    """What a file of `torch.save` holds, on the CPU. Its pickle may make tensors and plain containers only.

    Raises:
        WeightsError: missing, damaged, too large also when unpacked, or asks to run code.
    """
    import torch

    path = Path(path)
    check_size(path, largest)
    members: list[zipfile.ZipInfo] = []
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # a small file may unpack to a huge one
                members = archive.infolist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise WeightsError(f"{path}: not a readable torch file ({first_line(error)}).") from error
    unpacked = sum(member.file_size for member in members)
    if unpacked > largest:
        raise WeightsError(f"{path}: unpacks to {unpacked:,} bytes; the limit is {largest:,}.")
    if len(members) > 2 * TENSORS:
        raise WeightsError(f"{path}: {len(members):,} parts; a network here has fewer.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle can raise anything
        reason = first_line(error)
        if "weights_only" in str(error) or "Weights only" in str(error):
            reason = "it is damaged, or holds objects that would run code; save a plain state dict instead"
        raise WeightsError(f"{path}: not a readable torch file ({reason}).") from error


def check_tensor(path: Path, name: str, value: "Tensor") -> None:
    """A dense tensor on the CPU whose numbers are all in the file.

    Raises:
        WeightsError: it is of another kind, or claims more than it has.
    """
    import torch

    if value.device.type != "cpu":
        raise WeightsError(f"{path}: {name[:80]} has no numbers (it lies on {value.device.type}).")
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        raise WeightsError(f"{path}: {name[:80]} is sparse or quantised; save it as a plain tensor.")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise WeightsError(f"{path}: {name[:80]} claims {value.numel():,} numbers that the file has not.")


def state_dict(path: str | Path, largest: int = LARGEST) -> dict[str, "Tensor"]:
    """The state dict of a foreign `.pth`/`.pt` file, as it is or under "state_dict" or "model".

    Raises:
        WeightsError: missing, damaged, too large, asks to run code, or not a state dict.
    """
    from torch import Tensor

    path = Path(path)
    found = torch_file(path, largest)
    for wrapping in ("state_dict", "model_state_dict", "model_state", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapping), Mapping):
            found = found[wrapping]
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f"{path}: holds {type(found).__name__}, not a state dict of named tensors.")
    odd = [name for name, value in found.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if odd:
        more = f" and {len(odd) - 3} more are" if len(odd) > 3 else " are" if len(odd) > 1 else " is"
        names = ", ".join(shown(name, 60) for name in odd[:3])
        raise WeightsError(f"{path}: {names}{more} not a named tensor, so this is not a state dict.")
    check_header(path, {name: value.shape for name, value in found.items()})
    for name, value in found.items():
        check_tensor(path, name, value)
    return dict(found)


def arrays(
    source: Source,
    name: str | Path,
    *,
    wanted: Iterable[str] | None = None,
    largest: int = LARGEST,
    error: type[RecurraError] = WeightsError,
) -> dict[str, np.ndarray]:
    """Arrays of numbers or text of a `.npz` file by name, or the one of a `.npy` file as "".

    Args:
        source: a path, or the bytes of a file.
        name: what messages call it.
        wanted: read these alone, as far as they are there.
        largest: bytes that the file, and all that is read of it, may have.

    Raises:
        `error`: missing, damaged, too large, or holds what is no array of numbers or text.
    """
    data = source if isinstance(source, bytes) else read_bytes(source, largest, unpack=False, error=error)
    if not data.startswith(b"PK"):
        return {"": array(data, name, error)}
    chosen = None if wanted is None else set(wanted)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            if len(members) > ARRAYS:
                raise error(f"{name}: {len(members):,} arrays; the limit is {ARRAYS:,}.")
            members = {key: one for key, one in members.items() if chosen is None or key in chosen}
            unpacked = sum(one.file_size for one in members.values())
            if unpacked > largest:
                raise error(f"{name}: unpacks to {in_words(unpacked)}; the limit is {in_words(largest)}.")
            return {
                key: array(archive.read(one), f"{name}: {shown(key, 60)}", error)
                for key, one in members.items()
            }
    except (
        OSError,
        ValueError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as cause:
        raise error(f"{name}: not a complete file of numpy ({first_line(cause)}).") from cause


def array_header(
    stream: Any, size: int, name: str | Path, error: type[RecurraError] = WeightsError
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and type of a `.npy` file of so many bytes; reads them off.

    Raises:
        `error`: damaged, larger than its bytes, or of pickled objects.
    """
    try:
        version = np.lib.format.read_magic(stream)
        reader = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = reader(stream)
    except Exception as cause:  # numpy parses it as Python, so a damaged one can raise anything
        raise error(f"{name}: not a complete file of numpy ({first_line(cause)}).") from cause
    if dtype.hasobject:
        raise error(f"{name}: holds pickled objects, which may run code; save plain arrays with numpy.savez.")
    if dtype.kind not in "fiubcUS" or not dtype.itemsize:
        raise error(f"{name}: holds {shown(dtype, 60)}, not numbers or text.")
    if len(shape) > AXES or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size:
        claimed = shown("x".join(map(str, shape)), 60)
        raise error(f"{name}: claims {claimed} numbers that the file has not.")
    return shape, fortran, dtype


def array(data: bytes, name: str | Path, error: type[RecurraError] = WeightsError) -> np.ndarray:
    """The array of the bytes of a `.npy` file, whose header claims no more than there is.

    Raises:
        `error`: damaged, larger than its bytes, or of pickled objects.
    """
    array_header(io.BytesIO(data), len(data), name, error)
    try:
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, TypeError) as cause:
        raise error(f"{name}: not a complete file of numpy ({first_line(cause)}).") from cause
