"""Weights of strangers: cards that ask for too much, published files that are none."""

import io
import json
import struct
import time
import zipfile
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from apps.trajectory.model import load_model
from core.errors import WeightsError
from core.text import shown

BUNDLED = Path(str(files("apps.trajectory"))) / "weights" / "trajectory-gru.safetensors"
Change = Callable[[dict[str, Any], dict[str, Any]], None]


def altered(folder: Path, change: Change, body: bool = True) -> Path:
    """The bundled weights with another card or header."""
    data = BUNDLED.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    card = json.loads(header["__metadata__"]["card"])
    change(card, header)
    header["__metadata__"]["card"] = json.dumps(card)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path = folder / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + (data[8 + size :] if body else b""))
    return path


def put(**settings: Any) -> Change:
    """A card with other values: section__name=value."""

    def change(card: dict[str, Any], header: dict[str, Any]) -> None:
        for path, value in settings.items():
            *sections, last = path.split("__")
            place = card
            for section in sections:
                place = place[section]
            place[last] = value

    return change


def many_tensors(card: dict[str, Any], header: dict[str, Any]) -> None:
    for name in [name for name in header if name != "__metadata__"]:
        del header[name]
    header.update({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(60_000)})


def twice_the_factors(card: dict[str, Any], header: dict[str, Any]) -> None:
    card["extra"]["calibration"]["factors"] *= 2


CARDS: dict[str, tuple[Change, str]] = {
    "a width of 30,000": (put(settings__model__hidden=30_000), "a larger network"),
    "a million layers": (put(settings__model__layers=1_000_000), "1 to 1000"),
    "a thousand layers": (put(settings__model__layers=1000), "a larger network"),
    "a billion steps": (put(settings__window__horizon=10**9), "horizon 1 to 10000"),
    "a billion positions": (put(settings__window__history=10**9), "history must be 3 to 10000"),
    "a time step of NaN": (put(settings__window__dt=float("nan")), "a finite number, got nan"),
    "a tiny time step": (put(settings__window__dt=1e-12), "dt must be 0.0001"),
    "an infinite gap": (put(settings__window__max_gap=float("inf")), "max_gap must be a"),
    "a width as text": (put(settings__model__hidden="64"), "a whole number"),
    "no settings": (put(settings=[]), "its card is damaged"),
    "a task that acts on a terminal": (put(task="\x1b[2Jx\x1b]0;t\x07"), "weights for"),
    "twice the factors": (twice_the_factors, "its calibration"),
    "factors of NaN": (put(extra__calibration__factors=[[float("nan")] * 37] * 20), "its calibration"),
    "negative factors": (put(extra__calibration__factors=[[-1.0] * 37] * 20), "its calibration"),
    "levels that fall": (put(extra__calibration__levels=[0.5, 0.1]), "calibration"),
    "factors as a word": (put(extra__calibration__factors="x"), "calibration"),
    "60,000 tensors": (many_tensors, "60,000 tensors"),
}


@pytest.mark.parametrize("name", CARDS)
def test_a_card_that_cannot_be_believed_is_refused_at_once(name: str, tmp_path: Path) -> None:
    change, words = CARDS[name]
    path = altered(tmp_path, change, body=name != "60,000 tensors")
    begin = time.process_time()
    with pytest.raises(WeightsError, match=words) as error:
        load_model(path)
    assert time.process_time() - begin < 2
    assert len(str(error.value)) < 1500
    assert "\x1b" not in shown(error.value)


WIDE = 8


def published(width: int = WIDE) -> dict[Any, Tensor]:
    """A small state dict in the published layout."""
    state: dict[Any, Tensor] = {}
    for net, inputs in (("gru1", 3), ("gru2", width)):
        state[f"{net}.weight_ih_l0"] = torch.zeros(1).expand(3 * width, inputs)
        state[f"{net}.weight_hh_l0"] = torch.zeros(1).expand(3 * width, width)
        state |= {f"{net}.bias_{kind}_l0": torch.zeros(1).expand(3 * width) for kind in ("ih", "hh")}
    state |= {"fc.weight": torch.zeros(1).expand(3, width), "fc.bias": torch.zeros(3)}
    return state if width > 100 else {name: tensor.clone() for name, tensor in state.items()}


def claiming(shape: tuple[int, ...]) -> bytes:
    head = repr({"descr": "<f8", "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + bytes(8)
        archive.writestr("max_velocity.npy", member)
    return data.getvalue()


STATES: dict[str, tuple[dict[Any, Any], str]] = {
    "a width that is not there": (published(40_000), "numbers that the file has not"),
    "a number as a name": ({**published(), 5: torch.zeros(1)}, "not a named tensor"),
    "no outputs": ({**published(), "fc.weight": torch.zeros(0, 8), "fc.bias": torch.zeros(0)}, "0 x 8"),
    "an output of 10 million": ({**published(), "fc.weight": torch.zeros(1, 10**7)}, "a larger network"),
    "a bias of NaN": ({**published(), "fc.bias": torch.full((3,), float("nan"))}, "not finite"),
    "no first network": ({"fc.weight": torch.zeros(3, 8)}, "no VECTOR weights"),
}


@pytest.mark.parametrize("name", STATES)
def test_published_weights_that_are_none(name: str, tmp_path: Path) -> None:
    state, words = STATES[name]
    torch.save(state, tmp_path / "v_max_norm.pth")
    np.savez(tmp_path / "s.npz", max_velocity=np.array([10.0]))
    begin = time.process_time()
    with pytest.raises(WeightsError, match=words):
        load_model(tmp_path / "v_max_norm.pth", tmp_path / "s.npz")
    assert time.process_time() - begin < 2


STATISTICS: dict[str, tuple[Any, str]] = {
    "of no bytes": (b"", "not a statistics file"),
    "cut short": (200, "not a statistics file"),
    "without a value": ({"max_velocity": np.array([])}, "empty or not finite"),
    "of NaN": ({"max_velocity": np.array([np.nan])}, "empty or not finite"),
    "negative": ({"max_velocity": np.array([-1.0])}, "must be positive"),
    "of 8 TB": (claiming((10**12,)), "numbers that the file has not"),
    "of text": ({"max_velocity": np.array(["a"])}, "no max_"),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_that_are_none(name: str, tmp_path: Path) -> None:
    content, words = STATISTICS[name]
    torch.save(published(), tmp_path / "v_max_norm.pth")
    np.savez(tmp_path / "s.npz", **(content if isinstance(content, dict) else {"max_velocity": np.ones(1)}))
    if isinstance(content, int):
        (tmp_path / "s.npz").write_bytes((tmp_path / "s.npz").read_bytes()[:content])
    elif isinstance(content, bytes):
        (tmp_path / "s.npz").write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        load_model(tmp_path / "v_max_norm.pth", tmp_path / "s.npz")


def test_whitening_of_five_coordinates_for_a_network_of_three(tmp_path: Path) -> None:
    torch.save(published(), tmp_path / "v_white_norm.pth")
    np.savez(tmp_path / "s.npz", max_velocity=1.0, input_mean=np.zeros(5), L_matrix=np.eye(5))
    with pytest.raises(WeightsError, match="whitening of 5 coordinates"):
        load_model(tmp_path / "v_white_norm.pth", tmp_path / "s.npz")


def test_published_weights_that_fit_are_read(tmp_path: Path) -> None:
    torch.save(published(), tmp_path / "v_max_norm.pth")
    np.savez(tmp_path / "s.npz", max_velocity=np.array([10.0]))
    model = load_model(tmp_path / "v_max_norm.pth", tmp_path / "s.npz")
    assert (model.dims, model.horizon) == (3, 10)
