"""The one door for tensors and arrays: what strangers' files claim is checked before memory is given."""

import ast
import io
import json
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from core import door
from core.config import Count, Range, Size, convert
from core.errors import ConfigError, DataError, WeightsError
from core.weights import network_for

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "apps", "recsys", "speech", "vision", "demos")
READERS = {"torch.load", "np.load", "numpy.load", "pickle.load", "pickle.loads", "np.fromfile", "joblib.load"}


ALLOWED = {
    ROOT / "core" / "door.py",
    ROOT / "core" / "battery" / "habits.py",  # takes back what it has pickled itself
}


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a chain of names; empty for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def called(path: Path) -> set[str]:
    """Dotted names that a file calls, and what it imports of safetensors."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            found.add(dotted(node.func))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("safetensors"):
            found |= {f"safetensors.{name.name}" for name in node.names}
    return found


def test_no_other_module_reads_tensors_or_arrays() -> None:
    readers = READERS | {"safetensors.load", "safetensors.load_file", "safetensors.safe_open"}
    wrong = [
        f"{path.relative_to(ROOT)}: {', '.join(sorted(found))}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path not in ALLOWED and (found := called(path) & readers)
    ]
    assert not wrong


def with_header(folder: Path, header: dict[str, object], body: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path = folder / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        pytest.param({f"t{i}": EMPTY for i in range(10_001)}, "10,001 tensors", id="many"),
        ({"a\x1b[2J": EMPTY}, r"a tensor called 'a\\x1b\[2J'"),
        pytest.param({"a" * 201: EMPTY}, "which is no name", id="long"),
        ({"a": {**EMPTY, "shape": [0] * 9}}, "9 axes"),
        ({"a": {**EMPTY, "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}, "not a complete"),
        ({"a": 5}, "not a complete"),
        ({"a": {"dtype": "F32"}}, "not a complete"),
    ],
)
def test_headers_that_no_network_has(header: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=words) as error:
        door.safetensors(with_header(tmp_path, header))
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(1).expand(40_000, 40_000), "claims 1,600,000,000 numbers"),
        (torch.zeros(3, device="meta"), "has no numbers"),
        (torch.eye(3).to_sparse(), "sparse|plain state dict"),
    ],
)
def test_tensors_without_numbers_of_their_own(tensor: torch.Tensor, words: str, tmp_path: Path) -> None:
    torch.save({"a": tensor}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=words):
        door.state_dict(tmp_path / "w.pth")


def npy(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    head = repr({"descr": kind, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(8)


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ((10**12,), "<f8", "claims 1000000000000 numbers"),
        ((2**40, 2**40), "<f8", "claims"),
        ((-1,), "<f8", "claims"),
        ((0,) * 9, "<f8", "claims"),
        ((1,), "|O", "pickled objects"),
        ((1,), "<M8[s]", "not numbers or text"),
        ((1,), "nonsense", "not a complete file of numpy"),
    ],
)
def test_arrays_that_claim_what_is_not_there(
    shape: tuple[int, ...], kind: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words):
        door.arrays(npy(shape, kind), "a.npy", error=DataError)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.npy", npy(shape, kind))
    (tmp_path / "a.npz").write_bytes(packed.getvalue())
    with pytest.raises(WeightsError, match=words):
        door.arrays(tmp_path / "a.npz", "a.npz")
    assert door.arrays(tmp_path / "a.npz", "a.npz", wanted=["b"]) == {}


@pytest.mark.parametrize("cut", [0, 1, 3, 10, 60, 100])
def test_arrays_cut_short_or_packed_a_thousandfold(cut: int, tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1 << 20))
    data = (tmp_path / "a.npz").read_bytes()
    with pytest.raises(WeightsError, match=r"unpacks to 8\.39 MB; the limit is 4\.19 MB"):
        door.arrays(data, "a.npz", largest=4 << 20)
    with pytest.raises(WeightsError, match="not a complete file of numpy"):
        door.arrays(data[:cut], "a.npz")


class Wide(nn.Module):
    def __init__(self, width: int, layers: int, window: int = 0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.register_buffer("window", torch.hann_window(window), persistent=False)


@pytest.mark.parametrize(
    ("width", "layers", "window", "words"),
    [
        (30_000, 2, 0, "a larger network"),
        (4, 1_000_000, 0, "a larger network"),
        (4, 2, 10**9, "a larger network"),
        (5, 2, 0, r"layers\.0\.bias is \(4,\) in the file, \(5,\) in the model"),
        (4, 3, 0, r"missing from the file: layers\.2\.weight"),
        (-1, 1, 0, "no network can be built"),
    ],
)
def test_a_network_that_does_not_fit_is_never_built(width: int, layers: int, window: int, words: str) -> None:
    tensors = Wide(4, 2).state_dict()
    begin = time.process_time()
    with pytest.raises(WeightsError, match=words) as error:
        network_for("w.safetensors", tensors, lambda: Wide(width, layers, window))
    assert time.process_time() - begin < 2
    assert len(str(error.value)) < 1000


def test_a_network_that_fits_is_filled() -> None:
    source = Wide(4, 2)
    made = network_for("w.safetensors", source.state_dict(), lambda: Wide(4, 2, 512))
    assert made.layers[1].weight.equal(source.layers[1].weight)  # pyright: ignore
    assert made.window.sum() == pytest.approx(256)  # pyright: ignore


class Drawn(nn.Module):
    """A start that torch computes by its compiler where tensors have no memory."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.normal_(torch.empty(3, 2)))
        self.rate = nn.Parameter(torch.full((3,), 2.0).log().clamp(min=0.5).neg().repeat(2, 1))


LOOK = """
import sys, torch
from core.weights import network_for
from tests.core.test_door import Drawn
torch.manual_seed(0)
source = Drawn()
made = network_for("w", source.state_dict(), Drawn)
assert made.rate.equal(source.rate) and made.weight.equal(source.weight)
assert made.rate.shape == (2, 3) and made.rate[0, 1] == -torch.tensor(2.0).log()
print("torch._dynamo" in sys.modules)
"""


def test_weights_are_opened_without_the_compiler_of_torch() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (float("nan"), float, "a finite number, got nan"),
        (float("inf"), float | None, "must be a number or none"),
        pytest.param(10**400, int, "a finite number", id="400 digits"),
        pytest.param(10**5000, float, "thousands of digits", id="5,000 digits"),
        (0, Size, "1 to 65536, got 0"),
        (70_000, Size, "1 to 65536"),
        ([4, 10**6], tuple[Count, ...], "1 to 1000"),
        (True, Size, "must be a whole number"),
        ("4", Size, "must be a whole number"),
        pytest.param("x" * 10_000, int, "got 'xxx", id="long"),
    ],
)
def test_every_number_of_a_card_has_a_range(value: object, kind: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        convert(value, kind, "model.hidden")
    assert len(str(error.value)) < 200


def test_no_range_has_nan() -> None:
    assert float("nan") not in Range(0, 1)
    assert 1 in Range(0, 1)


def test_a_state_dict_may_be_shared_but_must_be_whole(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    torch.save({"model": {"a": base, "b": base[1:], "c": base.T}}, tmp_path / "w.pth")
    found = door.state_dict(tmp_path / "w.pth")
    assert found["b"].equal(base[1:])
    assert found["c"].equal(base.T)
    (tmp_path / "w.safetensors").write_bytes(save({"a": base}, {"x": "y"}))
    tensors, metadata = door.safetensors(tmp_path / "w.safetensors")
    assert tensors["a"].equal(base)
    assert metadata == {"x": "y"}
