"""Readers: the slate layout, tables of slots, histories; what is wrong is one sentence."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import DataError
from recsys.data import read_slates, split_users
from recsys.history import parse_history, read_histories, steps_from
from recsys.slates import Catalogue
from tests.recsys.market import log, written

NAMES = Catalogue(np.array([0, 1, 2, 3, 3, 4]), ("pad", "nothing", "unknown", "shoe", "hat", "17"))


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64"])
def test_a_folder_in_the_layout_is_read(tmp_path: Path, dtype: str) -> None:
    with np.load(written(tmp_path) / "data.npz") as file:
        arrays = {name: file[name].astype(dtype) for name in file.files}
    np.savez(tmp_path / "data.npz", **arrays)
    slates = read_slates(tmp_path)
    assert (np.asarray(slates.slate) == log().slates.slate).all()
    assert (slates.catalogue.group == log().slates.catalogue.group).all()


def test_a_stored_archive_is_mapped_not_read(tmp_path: Path) -> None:
    with np.load(written(tmp_path) / "data.npz") as file:
        np.savez(tmp_path / "data.npz", **{name: file[name] for name in file.files})
    assert isinstance(read_slates(tmp_path).slate, np.memmap)


Break = Callable[[dict[str, np.ndarray]], None]


def set_at(name: str, value: int, place: tuple[int, ...]) -> Break:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[name][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_at("click", 5, (3, 2)), "user row 3, step 2: the clicked item is not in the slate"),
        (set_at("click_idx", 99, (1, 0)), "click_idx is outside"),
        (set_at("slate", -4, (0, 0, 1)), "an item id outside"),
        (set_at("slate", 30_000, (0, 0, 1)), "an item id outside"),
        (set_at("slate_lengths", 77, (2, 1)), "a slate length outside"),
        (set_at("slate", 7, (4, 0, 0)), "slot 0 of a used step"),
        (lambda a: a.pop("click"), "no array 'click'"),
        (lambda a: a.update(click=a["click"][:3]), "has shape"),
        (lambda a: a.update(slate=a["slate"] + 0.5), "whole numbers"),
    ],
)
def test_a_log_that_contradicts_itself_is_refused(tmp_path: Path, change: Break, words: str) -> None:
    with np.load(written(tmp_path) / "data.npz") as file:
        arrays = {name: file[name] for name in file.files}
    change(arrays)
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=words):
        read_slates(tmp_path)


def test_an_item_twice_in_a_slate_is_refused(tmp_path: Path) -> None:
    with np.load(written(tmp_path) / "data.npz") as file:
        arrays = {name: file[name] for name in file.files}
    arrays["slate"][0, 0, 2] = arrays["slate"][0, 0, 1]
    arrays["click_idx"][0, 0], arrays["click"][0, 0] = 0, 1
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match="twice"):
        read_slates(tmp_path)


def test_truncated_pickled_and_foreign_files_are_refused(tmp_path: Path) -> None:
    whole = (written(tmp_path) / "data.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "pickled.npz", slate=np.array([{"a": 1}], dtype=object), click=[1], click_idx=[0])
    (tmp_path / "text.npz").write_text("hello")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("slate.npy", b"\x93NUMPY nonsense")
    for name in ("cut", "pickled", "text", "other", "missing"):
        with pytest.raises(DataError, match=name):
            read_slates(tmp_path / f"{name}.npz")


def table(**columns: list[object]) -> pd.DataFrame:
    base: dict[str, list[object]] = {
        "user": ["a", "a", "a", "b", "b"],
        "time": [1, 1, 2, 5, 5],
        "slot": [1, 2, 1, 1, 2],
        "item": ["x", "y", "z", "x", "z"],
        "click": [0, 1, 0, 0, 0],
        "kind": ["search", "search", "rec", "rec", "rec"],
        "group": ["g", "g", "h", "g", "h"],
    }
    return pd.DataFrame({**base, **columns})


def test_a_table_of_slots_becomes_slates(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "log.parquet")
    slates = read_slates(tmp_path / "log.parquet")
    assert slates.users.tolist() == ["a", "b"]
    assert slates.lengths.tolist() == [[3, 2], [3, 0]]
    assert slates.click_idx.tolist() == [[2, 0], [0, 0]]
    assert slates.catalogue.name(int(slates.click[0, 0])) == "y"
    assert slates.kind.tolist() == [[1, 2], [2, 0]]
    groups = slates.catalogue.group[slates.catalogue.numbers(["x", "y", "z"])]
    assert groups[0] == groups[1] != groups[2]


def test_several_clicks_become_steps_and_are_counted(tmp_path: Path) -> None:
    table(click=[1, 1, 0, 0, 0]).to_parquet(tmp_path / "log.parquet")
    slates = read_slates(tmp_path / "log.parquet")
    assert slates.click_idx[0].tolist() == [1, 2, 0]
    assert any("several clicks" in remark for remark in slates.remarks)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"click": [0, 2, 0, 0, 0]}, "row 2: click is neither"),
        ({"item": ["x", None, "z", "x", "z"]}, "row 2: item is empty"),
        ({"item": [1, -2, 3, 4, 5]}, "row 2: item is negative"),
        ({"item": [1.5, 2, 3, 4, 5]}, "row 1: item is not a whole number"),
        ({"slot": [0, 2, 1, 1, 2]}, "row 1: slot is not"),
        ({"kind": ["ad"] * 5}, "kind is search or rec"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, columns: dict[str, list[object]], words: str) -> None:
    table(**columns).to_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=words):
        read_slates(tmp_path / "log.parquet")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    table().drop(columns="click").to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(DataError, match="no column 'click'"):
        read_slates(tmp_path / "log.csv")


def test_histories_of_clicks_and_slates_are_read(tmp_path: Path) -> None:
    value = [
        {"user": "u", "history": ["shoe", {"slate": ["hat", "shoe"], "click": "shoe", "kind": "rec"}, 17]},
        {"user": "v", "history": [{"slate": ["hat"], "click": None}, "boat"]},
    ]
    (tmp_path / "h.json").write_text(json.dumps(value))
    one, two = read_histories(tmp_path / "h.json", NAMES)
    assert one.clicked == [3, 3, 5]
    assert (two.clicked, two.unknown, two.user) == ([], 1, "v")
    steps = steps_from([one, two])
    assert steps.click.tolist() == [[3, 3, 5], [1, 0, 0]]
    assert steps.lengths.tolist() == [[2, 3, 2], [2, 0, 0]]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("shoe", "expected a list"),
        ([1.5], "item id is text or a whole number"),
        ([True], "item id"),
        ([-3], "not negative"),
        ([{"slate": ["hat"], "click": "shoe"}], "not in the slate"),
        ([{"slate": ["hat", "hat"], "click": None}], "twice"),
        ([{"slate": ["hat"], "clicked": "hat"}], "unknown field 'clicked'"),
        ([{"slate": "hat"}], "must be a list"),
        ([{"slate": ["hat"], "kind": "ad"}], "kind is search or rec"),
    ],
)
def test_a_history_that_cannot_be_is_refused(value: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        parse_history(value, NAMES)


def test_ids_beyond_every_catalogue_are_unknown_not_wrapped() -> None:
    plain = Catalogue(np.arange(6))
    assert plain.numbers([2**31 + 4, 2**65, "5", "x", 0]).tolist() == [2, 2, 5, 2, 2]


def test_the_split_is_the_authors() -> None:
    train, valid, test = split_users(1000)
    assert (len(train), len(valid), len(test)) == (900, 50, 50)
    assert sorted([*train, *valid, *test]) == list(range(1000))


def test_prepare_joins_logs_and_keeps_external_ids(tmp_path: Path) -> None:
    from core.errors import ConfigError
    from recsys.prepare import prepare

    table().rename(columns={"user": "uid"}).to_parquet(tmp_path / "a.parquet")
    table(user=["c", "c", "c", "d", "d"]).rename(columns={"user": "uid"}).to_csv(
        tmp_path / "b.csv", index=False
    )
    both = [tmp_path / "a.parquet", tmp_path / "b.csv"]
    report = prepare(both, tmp_path / "log", columns={"user": "uid"})
    assert (report["users"], report["steps"], report["items"], report["groups"]) == (4, 6, 3, 2)
    again = read_slates(tmp_path / "log")
    assert isinstance(again.slate, np.memmap)
    assert again.users.tolist() == ["a", "b", "c", "d"]
    assert again.catalogue.name(int(again.click[0, 0])) == "y"
    assert json.loads((tmp_path / "log" / "report.json").read_text())["users"] == 4
    with pytest.raises(ConfigError, match="already"):
        prepare(both, tmp_path / "log", columns={"user": "uid"})
    twice = prepare([tmp_path / "log", tmp_path / "log"], tmp_path / "twice")
    assert twice["users"] == 8
    with pytest.raises(DataError, match="another catalogue"):
        prepare([tmp_path / "log", written(tmp_path / "other")], tmp_path / "third")
