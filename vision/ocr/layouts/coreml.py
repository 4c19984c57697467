"""CoreML files of kraken before version 7: a reader of the protobuf wire format, without coremltools."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.errors import WeightsError

Value = int | bytes


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message.

    Raises:
        ValueError: a length beyond the end, or a kind that protobuf does not have.
    """
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if size < 0 or at + size > len(data):
            raise ValueError(f"a field of {size} bytes where {len(data) - at} are left")
        yield key >> 3, data[at : at + size]
        at += size


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length and the place behind it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number that does not end")
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7


def parts(data: bytes, number: int) -> list[bytes]:
    """The messages under a number."""
    return [value for key, value in fields(data) if key == number and isinstance(value, bytes)]


def whole(data: bytes, number: int) -> int:
    """The last number under a key, 0 where there is none."""
    return next((v for k, v in reversed(list(fields(data))) if k == number and isinstance(v, int)), 0)


def packed(data: bytes, number: int) -> list[int]:
    """Numbers under a key, packed or one by one."""
    found = []
    for key, value in fields(data):
        if key == number and isinstance(value, int):
            found.append(value)
        elif key == number and isinstance(value, bytes):
            at = 0
            while at < len(value):
                one, at = varint(value, at)
                found.append(one)
    return found


def array(data: bytes) -> np.ndarray:
    """Weights: packed float32, or float16 bytes."""
    for key, value in fields(data):
        if isinstance(value, bytes) and value and key in (1, 2):
            return np.frombuffer(value, "<f4" if key == 1 else "<f2").astype(np.float32)
    return np.zeros(0, np.float32)


def from_mlmodel(path: Path, data: bytes) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Tensors under kraken's names, and the metadata.

    Raises:
        WeightsError: damaged, or no network of kraken.
    """
    try:
        meta: dict[str, str] = {}
        for description in parts(data, 2):
            for metadata in parts(description, 100):
                for entry in parts(metadata, 100):
                    key, value = parts(entry, 1), parts(entry, 2)
                    if key:
                        meta[key[0].decode()] = value[0].decode() if value else ""
        tensors: dict[str, Tensor] = {}
        for network in parts(data, 500):
            for layer in parts(network, 1):
                for name, values in layer_tensors(layer):
                    tensors[f"nn.{name}"] = torch.from_numpy(np.ascontiguousarray(values))
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: not a complete model file ({error}).") from error
    if "vgsl" not in meta:
        raise WeightsError(f"{path}: neither safetensors nor a model of kraken.")
    return tensors, meta


def layer_tensors(layer: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors of one layer by kraken's name."""
    name = parts(layer, 1)[0].decode()
    for ending in ("_conv", "_lin", "_transposed"):
        name = name.removesuffix(ending)
    for about in parts(layer, 100):
        outputs, inputs = whole(about, 1), whole(about, 2)
        kernel = packed(about, 20)
        weights = array(parts(about, 90)[0])
        shape = (inputs, outputs, *kernel) if whole(about, 60) else (outputs, inputs, *kernel)
        yield f"{name}.co.weight", weights.reshape(shape)
        yield f"{name}.co.bias", array(parts(about, 91)[0])
    for about in parts(layer, 140):
        inputs, outputs = whole(about, 1), whole(about, 2)
        yield f"{name}.lin.weight", array(parts(about, 20)[0]).reshape(outputs, inputs)
        yield f"{name}.lin.bias", array(parts(about, 21)[0])
    for number in (420, 430):
        for about in parts(layer, number):
            inputs, hidden = whole(about, 1), whole(about, 2)
            for ending, gates in zip(("", "_reverse"), parts(about, 20), strict=False):
                yield from gate_tensors(f"{name}.layer", ending, gates, inputs, hidden)
    for about in parts(layer, 500):
        if parts(about, 10) and parts(about, 10)[0] == b"groupnorm":
            weight, bias = (array(part) for part in parts(about, 20)[:2])
            yield f"{name}.layer.weight", weight
            yield f"{name}.layer.bias", bias


def gate_tensors(
    name: str, ending: str, gates: bytes, inputs: int, hidden: int
) -> Iterator[tuple[str, np.ndarray]]:
    """An LSTM's matrices in the order i, f, g, o; the stored bias is the sum of torch's two."""

    def stacked(first: int, columns: int) -> np.ndarray:
        found = [array(parts(gates, first + place)[0]) for place in GATES]
        return np.concatenate([part.reshape(hidden, columns) for part in found])

    yield f"{name}.weight_ih_l0{ending}", stacked(1, inputs)
    yield f"{name}.weight_hh_l0{ending}", stacked(20, hidden)
    bias = stacked(40, 1)[:, 0]
    yield f"{name}.bias_hh_l0{ending}", bias
    yield f"{name}.bias_ih_l0{ending}", np.zeros_like(bias)


GATES = (0, 1, 2, 3)
"""Places of i, f, g, o among a message's gates."""
