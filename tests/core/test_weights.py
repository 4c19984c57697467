"""Weights go out and come back whole, and whatever is wrong with a file is said in one sentence."""

import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from core import door
from core.errors import WeightsError
from core.weights import (
    Card,
    load,
    load_into,
    load_torch,
    save,
)
from tests.core.nets import CARD, Net, saved


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight


def test_a_module_and_its_card_come_back_equal(tmp_path: Path) -> None:
    net, other = Net(), Net()
    tensors, card = load(saved(tmp_path, net))
    load_into(other, tensors)
    assert card == CARD
    for name, weight in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], weight)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6).reshape(2, 3).T,
        torch.randn(3, 4)[:, ::2],
        torch.randn(2, dtype=torch.complex64),
        torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        torch.tensor([True, False]),
        torch.zeros(0, 3),
        torch.tensor(2.5, dtype=torch.float64),
    ],
    ids=["transposed", "strided", "complex", "bfloat16", "bool", "empty", "scalar"],
)
def test_every_kind_of_tensor_survives(tmp_path: Path, tensor: Tensor) -> None:
    loaded, _ = load(saved(tmp_path, {"t": tensor}))
    assert loaded["t"].dtype == tensor.dtype
    assert torch.equal(loaded["t"], tensor)


def test_tied_tensors_are_stored_once_and_come_back_under_both_names(tmp_path: Path) -> None:
    path = saved(tmp_path, Tied())
    tensors, _ = load(path)
    assert set(tensors) == {"first.weight", "first.bias", "second.weight", "second.bias"}
    assert torch.equal(tensors["first.weight"], tensors["second.weight"])
    load_into(Tied(), tensors)


def test_views_of_one_buffer_are_stored_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    tensors, _ = load(saved(tmp_path, {"head": whole[:3], "tail": whole[3:], "all": whole}))
    assert torch.equal(tensors["tail"], torch.tensor([3.0, 4.0, 5.0]))
    assert torch.equal(tensors["all"], whole)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path: Path, bad: float) -> None:
    broken = {"a": torch.ones(2), "b": torch.tensor([1.0, bad])}
    with pytest.raises(WeightsError, match="b is not finite"):
        saved(tmp_path, broken)
    assert not list(tmp_path.iterdir())
    path = saved(tmp_path, {"a": torch.ones(2), "b": torch.ones(2)})
    data = bytearray(path.read_bytes())
    data[-4:] = struct.pack("<f", bad)
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=r"[ab] is not finite \(NaN or infinity\)"):
        load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()
    with pytest.raises(WeightsError):
        save(path, {"a": torch.tensor(float("nan"))}, CARD)
    assert path.read_bytes() == before
    with pytest.raises(WeightsError, match="not one tensor"):
        save(path, {}, CARD)


def test_every_problem_with_names_and_shapes_is_reported_and_nothing_is_changed() -> None:
    net = Net()
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    tensors = dict(nn.LSTM(3, 4).state_dict())
    tensors = {f"rnn.{name}": weight for name, weight in tensors.items()} | {"head.weight": torch.ones(2, 4)}
    tensors["extra"] = torch.ones(1)
    with pytest.raises(WeightsError) as caught:
        load_into(net, tensors)
    assert str(caught.value) == (
        "rnn.bias_hh_l0 is (16,) in the file, (12,) in the model; "
        "rnn.bias_ih_l0 is (16,) in the file, (12,) in the model; "
        "rnn.weight_hh_l0 is (16, 4) in the file, (12, 4) in the model; "
        "rnn.weight_ih_l0 is (16, 3) in the file, (12, 3) in the model; "
        "missing from the file: head.bias; unknown to the model: extra. Was it trained as an LSTM?"
    )
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, before[name])


def test_another_hidden_width_is_named() -> None:
    with pytest.raises(WeightsError, match="Its hidden width is 8"):
        load_into(nn.GRU(3, 4), nn.GRU(3, 8).state_dict())


def test_a_common_prefix_is_recognised() -> None:
    net = Net()
    tensors = {f"module.{name}": weight for name, weight in net.state_dict().items()}
    with pytest.raises(WeightsError, match=r"All its names begin with 'module\.'"):
        load_into(net, tensors)
    load_into(net, tensors, [(r"^module\.", "")])


def test_a_key_map_renames_and_leaves_out() -> None:
    net, other = Net(), Net()
    foreign = {name.replace("rnn.", "gru1."): weight for name, weight in other.state_dict().items()}
    foreign["optimizer.step"] = torch.ones(1)
    load_into(net, foreign, lambda name: None if "opt" in name else name.replace("gru1.", "rnn."))
    assert torch.equal(net.rnn.weight_hh_l0, other.rnn.weight_hh_l0)


def test_a_key_map_that_joins_two_names_is_refused() -> None:
    with pytest.raises(WeightsError, match="two tensors the name 'x'"):
        load_into(Net(), {"a": torch.ones(1), "b": torch.ones(1)}, lambda name: "x")


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_a_tensor_of_another_kind_is_refused(dtype: torch.dtype) -> None:
    tensors = dict(nn.Linear(2, 2).state_dict()) | {"bias": torch.ones(2, dtype=dtype)}
    kind = str(dtype).removeprefix("torch.")
    with pytest.raises(WeightsError, match=f"bias is {kind} in the file, float32 in the model"):
        load_into(nn.Linear(2, 2), tensors)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_another_precision_is_taken_over(dtype: torch.dtype) -> None:
    layer = nn.Linear(2, 2)
    load_into(layer, {"weight": torch.full((2, 2), 0.5, dtype=dtype), "bias": torch.zeros(2, dtype=dtype)})
    assert layer.weight.dtype == torch.float32
    assert torch.equal(layer.weight, torch.full((2, 2), 0.5))


HOSTILE = {
    "empty": b"",
    "short": b"\x01\x02",
    "text": b"not weights at all, just some words\n" * 10,
    "header beyond the file": struct.pack("<Q", 1 << 62) + b"{}",
    "header of 200 MB": struct.pack("<Q", 200 << 20) + b"{}",
    "header that is no JSON": struct.pack("<Q", 4) + b"{{{{",
    "data out of range": struct.pack("<Q", 64)
    + json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).ljust(64).encode(),
    "shape that overflows": struct.pack("<Q", 96)
    + json.dumps({"a": {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 0]}})
    .ljust(96)
    .encode(),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(WeightsError, match="not a complete safetensors file"):
        load(path)


def test_a_truncated_file_is_refused_at_any_length(tmp_path: Path) -> None:
    path = saved(tmp_path)
    data = path.read_bytes()
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        with pytest.raises(WeightsError, match="not a complete safetensors file"):
            load(path)


@settings(
    deadline=None,
    derandomize=True,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_corrupted_file_loads_or_is_a_weights_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "w.safetensors"
    if not path.exists():
        save(path, Net(), CARD)
        (tmp_path / "whole").write_bytes(path.read_bytes())
    damaged = bytearray((tmp_path / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        _, card = load(path)
    except WeightsError:
        return
    assert isinstance(card, Card)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="no card of ours"):
        load(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"recurra": "2", "card": "{}"}, "its format is '2', ours 1"),
        ({"recurra": "1"}, "its card is damaged"),
        ({"recurra": "1", "card": "[]"}, "its card is damaged"),
        ({"recurra": "1", "card": '{"task": 3}'}, "task should be str"),
        ({"recurra": "1", "card": "[" * 100_000}, "its card is damaged"),
        ({"recurra": "1", "card": json.dumps(CARD.__dict__), "tied": '{"b": "z"}'}, "its card is damaged"),
        ({"recurra": "1", "card": json.dumps(CARD.__dict__), "tied": '{"b": []}'}, "its card is damaged"),
    ],
)
def test_a_damaged_card_is_refused(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata=metadata)
    with pytest.raises(WeightsError, match=message):
        load(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no such weights file"):
        load(tmp_path / "none.safetensors")


def test_a_torch_state_dict_is_read_alone_or_wrapped(tmp_path: Path) -> None:
    net = Net()
    for found in (
        net.state_dict(),
        {"model": net.state_dict(), "epoch": 3},
        {"state_dict": net.state_dict()},
    ):
        torch.save(found, tmp_path / "w.pth")
        load_into(Net(), load_torch(tmp_path / "w.pth"))
    torch.save(net.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(load_torch(tmp_path / "old.pth")["head.bias"], net.head.bias)


class Runs:
    """What an attacker would pickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("was_run"),))


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(1), "b": Runs()}, "w.pth", _use_new_zipfile_serialization=new)
    with pytest.raises(WeightsError, match="would run code"):
        load_torch("w.pth")
    Path("plain.pth").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(WeightsError, match="not a readable torch file"):
        load_torch("plain.pth")
    assert not Path("was_run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(1), "b": 3}, "b is not a named tensor"),
        ([torch.ones(1)], "holds list, not a state dict"),
        ({}, "not a state dict"),
        ({"a": torch.tensor(float("nan"))}, "a is not finite"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=message):
        load_torch(tmp_path / "w.pth")


def test_a_file_over_the_limit_is_refused_also_when_it_is_packed(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="the limit for weights is 1,000"):
        load_torch(tmp_path / "w.pth", largest=1000)
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1_000_000))
    assert (tmp_path / "bomb.pth").stat().st_size < 10_000
    with pytest.raises(WeightsError, match="unpacks to 1,000,000 bytes; the limit is 10,000"):
        load_torch(tmp_path / "bomb.pth", largest=10_000)


@settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_corrupted_torch_file_loads_or_is_a_weights_error(tmp_path: Path, data: st.DataObject) -> None:
    path, whole = tmp_path / "w.pth", tmp_path / "whole"
    if not whole.exists():
        torch.save(nn.Linear(2, 2).state_dict(), whole)
    damaged = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        tensors = load_torch(path)
    except WeightsError:
        return
    assert all(isinstance(tensor, Tensor) for tensor in tensors.values())


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(40_000, 40_000), r"w claims 1,600,000,000 numbers that the file has not"),
        (torch.eye(3).to_sparse(), "w is sparse or quantised|not a readable torch file"),
    ],
)
def test_tensors_that_are_larger_than_their_file_are_refused(
    tmp_path: Path, tensor: torch.Tensor, message: str
) -> None:
    torch.save({"w": tensor}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=message):
        load_torch(tmp_path / "w.pth")


def test_a_header_of_countless_names_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    monkeypatch.setattr(door, "HEADER", 100)
    with pytest.raises(WeightsError, match=r"a header of .* bytes; weights here have less than 100 bytes"):
        load(path)
