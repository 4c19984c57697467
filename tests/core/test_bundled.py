"""Networks from the cards of their weights, parts of others, and the files that come with a package."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core import bundled, weights
from core.errors import ConfigError, WeightsError
from core.weights import (
    Card,
    bundle,
    find,
    load,
    load_network,
    load_part,
    save,
    write_index,
)
from tests.core.nets import CARD, Net, saved


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of its own with one bundled file."""
    folder = tmp_path / "pack" / "flights" / "weights"
    folder.mkdir(parents=True)
    save(folder / "flights_small.safetensors", Net(), CARD)
    write_index(folder)
    monkeypatch.setattr(bundled, "weights_folders", lambda: [folder])
    return folder


def test_bundled_weights_are_listed_and_found_by_name(package: Path) -> None:
    (row,) = weights.bundled()
    data = (package / "flights_small.safetensors").read_bytes()
    assert {
        key: row[key] for key in ("name", "task", "unit", "parameters", "bytes", "score", "data", "terms")
    } == {
        "name": "flights_small",
        "task": "trajectory",
        "unit": "gru",
        "parameters": 118,
        "bytes": len(data),
        "score": "fde 0.25",
        "data": "generated flights",
        "terms": "Apache-2.0",
    }
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert find("flights_small") == package / "flights_small.safetensors"
    assert load(find("flights_small"))[1] == CARD


def test_an_unknown_name_is_answered_with_close_ones(package: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights 'flight_smal'.* Did you mean flights_small\?"):
        find("flight_smal")


def test_a_path_and_a_run_folder_are_found(tmp_path: Path) -> None:
    path = saved(tmp_path)
    assert find(path) == path
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(WeightsError, match=r"a folder without model\.safetensors"):
        find(run)
    save(run / "model.safetensors", Net(), CARD)
    assert find(str(run)) == run / "model.safetensors"


def test_an_altered_bundled_file_is_refused(package: Path) -> None:
    path = package / "flights_small.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="another SHA-256"):
        load(path)
    path.write_bytes(data[:-4])
    with pytest.raises(WeightsError, match=f"{len(data) - 4} bytes instead of {len(data)}"):
        load(path)


def test_a_damaged_index_is_said(package: Path) -> None:
    (package / "index.json").write_text('{"models": [{"file": "x"}]}')
    with pytest.raises(WeightsError, match="list of bundled weights is damaged"):
        weights.bundled()


def test_what_the_packages_bundle_is_what_their_indexes_say() -> None:
    for row in bundled.index_rows():
        tensors, card = load(row["path"])
        assert row["parameters"] == sum(tensor.numel() for tensor in tensors.values())
        assert (row["task"], row["unit"], row["terms"]) == (card.task, card.unit, card.terms)


def test_what_is_bundled_stays_small() -> None:
    folders = {row["path"].parent for row in bundled.index_rows()}
    sizes = [path.stat().st_size for folder in folders for path in folder.iterdir()]
    assert max(sizes) <= 4_000_000
    assert sum(sizes) <= 28_000_000


def from_card(card: Card) -> nn.Module:
    """A network whose width and depth its card says."""
    wanted = card.settings["model"]
    if wanted["hidden"] < 1:
        raise ConfigError("hidden must be positive.")
    return nn.Sequential(
        *(nn.Linear(wanted["hidden"], wanted["hidden"]) for _ in range(wanted.get("layers", 1)))
    )


def linear(tmp_path: Path, **model: Any) -> Path:
    """Weights of one layer of width 4 whose card says something else."""
    card = Card("speech", "linear", "none", "none", settings={"model": {"hidden": 4, **model}})
    return saved(tmp_path, nn.Sequential(nn.Linear(4, 4)), card)


def test_a_network_is_rebuilt_from_its_card_and_kept(tmp_path: Path) -> None:
    path = linear(tmp_path)
    found = load_network(path, "speech", from_card, dtype=torch.float64)
    assert found.name == "net.safetensors"
    assert not found.network.training
    assert next(found.network.parameters()).dtype == torch.float64
    assert load_network(path, "speech", from_card, dtype=torch.float64) is found
    assert load_network(path, ("ocr", "speech"), from_card) is not found
    with pytest.raises(WeightsError, match="weights for 'speech', not for ocr"):
        load_network(path, "ocr", from_card)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"hidden": 30_000}, "asks for a larger network than its tensors fill"),
        ({"layers": 10**9}, "asks for a larger network than its tensors fill"),
        ({"hidden": 10**12}, "(no network can be built|larger network)"),
        ({"hidden": 0}, "its settings are not ours"),
        ({"hidden": 5}, r"0\.weight is \(4, 4\) in the file, \(5, 5\) in the model"),
        ({"hidden": "wide"}, "no network can be built from its card"),
    ],
)
def test_a_card_that_asks_for_another_network_is_refused(
    tmp_path: Path, model: dict[str, Any], message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        load_network(linear(tmp_path, **model), "speech", from_card)


def test_a_part_is_taken_and_told(tmp_path: Path) -> None:
    source, target = Net(), Net()
    target.head = nn.Linear(4, 7)
    before = target.head.bias.clone()
    told = load_part(target, {**source.state_dict(), "old.scale": torch.ones(1)})
    assert torch.equal(target.rnn.weight_hh_l0, source.rnn.weight_hh_l0)
    assert torch.equal(target.head.bias, before)
    assert (len(told.taken), told.missing, told.unknown) == (4, (), ("old.scale",))
    assert str(told).startswith("4 of 6 tensors taken; of another shape: head.bias is (2,) in the file")
    with pytest.raises(WeightsError, match="not one of the file's 1 tensors fits"):
        load_part(target, {"x": torch.ones(1)})
    assert (
        len(load_part(target, {f"net.{k}": v for k, v in source.state_dict().items()}, [("^net.", "")]).taken)
        == 4
    )


def test_a_run_is_bundled_small_and_with_what_its_card_tells(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save(run / "model.safetensors", Net(), CARD)
    path = bundle(run, tmp_path / "weights", "net", score={"cer": 0.1}, about={"language": "French"})
    tensors, card = load(path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert card.score == {"cer": 0.1}
    (row,) = json.loads((tmp_path / "weights" / "index.json").read_text())["models"]
    assert (row["language"], row["score"], row["name"]) == ("French", "cer 0.1", "net")
    with pytest.raises(WeightsError, match="236 bytes of tensors; a bundled file may have 200 bytes"):
        bundle(run, tmp_path / "weights", "large", most=200)
    assert sorted(p.name for p in (tmp_path / "weights").iterdir()) == ["index.json", "net.safetensors"]
