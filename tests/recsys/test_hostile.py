"""What strangers send: a clear answer or one sentence, and nothing lost or half-written."""

import asyncio
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError, RecurraError
from recsys.data import check_slates, read_slates
from recsys.evaluation import evaluate
from recsys.history import parse_history, steps_from
from recsys.sequences.data import read_sequences
from recsys.tables import slates_of
from tests.recsys.market import log, model

FEW = settings(
    max_examples=40, deadline=None, database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANY = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
IDS = st.integers(-5, 300) | st.sampled_from(["5", "x", "", 5.5, None, 2**40, True])
STEP = st.fixed_dictionaries(
    {"slate": st.lists(IDS, max_size=5) | ANY},
    optional={"click": IDS, "kind": st.sampled_from(["rec", "ad", 3])},
)


def one_sentence(error: Exception) -> None:
    """Short enough to read, on one line."""
    assert "\n" not in str(error)
    assert len(str(error)) < 1500


@FEW
@given(st.lists(IDS | STEP, max_size=6) | ANY)
def test_any_history_is_steps_or_one_sentence(value: Any) -> None:
    try:
        found = parse_history(value, model().catalogue)
    except DataError as error:
        one_sentence(error)
        return
    steps = steps_from([found])
    assert (steps.click_idx < steps.lengths.clamp_min(1)).all()


@FEW
@given(st.data())
def test_any_table_is_a_checked_log_or_one_sentence(data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 5))

    def column(cell: st.SearchStrategy[Any]) -> list[Any]:
        return data.draw(st.lists(cell, min_size=rows, max_size=rows))

    odd = st.none() | st.text(max_size=3) | st.floats()
    frame = pd.DataFrame(
        {
            "user": column(st.sampled_from(["a", "b", 1]) | odd),
            "time": column(st.integers(0, 2) | odd),
            "slot": column(st.integers(0, 3) | odd),
            "item": column(st.integers(3, 9) | odd),
            "click": column(st.sampled_from([0, 1]) | odd),
        }
    )
    try:
        slates = slates_of(frame, "log")
        check_slates(slates)
    except DataError as error:
        one_sentence(error)


@FEW
@given(raw=st.binary(max_size=200))
def test_any_bytes_are_no_log(tmp_path: Path, raw: bytes) -> None:
    for name in ("a.npz", "a.parquet", "a.csv"):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(DataError):
            read_slates(tmp_path / name)
    (tmp_path / "a.txt").write_bytes(raw)
    try:
        assert len(read_sequences(tmp_path / "a.txt")) > 0
    except DataError as error:
        one_sentence(error)


@FEW
@given(path=st.sampled_from(["/recommend", "/click", "/forget", "/items"]), body=ANY | STEP)
def test_any_body_has_an_answer(shop: Any, path: str, body: Any) -> None:
    try:
        text = json.dumps(body)
    except (ValueError, TypeError):
        return
    answer = shop.post(path, content=text, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 413, 422, 503)
    if answer.status_code != 200:
        assert list(answer.json()) == ["error"]
        assert "Traceback" not in answer.text


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Any:
    testclient = pytest.importorskip("fastapi.testclient")
    from recsys.serve.app import create_app
    from recsys.serve.engine import Engine
    from recsys.serve.store import Store

    engine = Engine("recsys-simulated", Store(tmp_path_factory.mktemp("shop") / "s.db"))
    with testclient.TestClient(create_app(engine, poll_s=60)) as client:
        yield client


def saved(path: Path, **changes: Any) -> Path:
    slates = log().slates
    arrays: dict[str, Any] = {
        "userId": slates.users, "slate": slates.slate, "click": slates.click, "click_idx": slates.click_idx,
        "slate_lengths": slates.lengths, "interaction_type": slates.kind,
    }  # fmt: skip
    np.savez(path, **(arrays | changes))
    return path


def test_ids_beyond_the_catalogue_negative_and_huge_are_refused(tmp_path: Path) -> None:
    wide = np.asarray(log().slates.slate).astype(np.int64)
    for value in (2**40, -7):
        slate = wide.copy()
        slate[3, 2, 1] = value
        with pytest.raises(DataError, match="user row 3, step 2: an item id outside"):
            read_slates(saved(tmp_path / "log.npz", slate=slate))
    with pytest.raises(DataError, match="whole numbers"):
        read_slates(saved(tmp_path / "log.npz", slate=wide.astype(float)))


def test_a_pickle_and_a_truncated_file_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, slate=np.array([{"a": 1}], dtype=object))
    (tmp_path / "pickle.npz").write_bytes(buffer.getvalue())
    whole = saved(tmp_path / "log.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("pickle.npz", "half.npz"):
        with pytest.raises(DataError, match=name):
            read_slates(tmp_path / name)


def test_a_log_in_which_nobody_clicks_is_scored(tmp_path: Path) -> None:
    slates = log().slates
    nothing = np.zeros_like(np.asarray(slates.click_idx))
    click = np.where(np.asarray(slates.lengths) > 0, 1, 0)
    report = evaluate(model(), [replace(slates, click=click, click_idx=nothing)])
    assert report["model"]["hits@20"] == 0
    assert report["model"]["loglik"] < 0
    assert read_slates(saved(tmp_path / "log.npz", click=click, click_idx=nothing)).click.max() == 1


def test_equal_and_unsorted_times_make_the_same_log_whatever_their_order() -> None:
    rows = [("a", 5, 1, "x", 0), ("a", 5, 2, "y", 1), ("a", 1, 1, "y", 0), ("b", 5, 1, "x", 1)]
    names = ["user", "time", "slot", "item", "click"]
    one = slates_of(pd.DataFrame(rows, columns=names), "log")
    two = slates_of(pd.DataFrame(rows[::-1], columns=names), "log")
    for name in ("slate", "click", "lengths", "time"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.click[0].tolist() == [1, one.slate[0, 1, 2]]
    twice = pd.DataFrame([*rows, ("b", 5, 1, "y", 0)], columns=names)  # whose slate is it?
    with pytest.raises(DataError, match=r"log row 5: this slot of this user and time .* times of their own"):
        slates_of(twice, "log")


def test_weights_and_groups_of_another_catalogue_are_refused() -> None:
    slates = log().slates
    shifted = slates.catalogue.group.copy()
    shifted[5:] = np.roll(shifted[5:], 1)
    with pytest.raises(DataError, match="group table of another catalogue"):
        evaluate(model(), [replace(slates, catalogue=replace(slates.catalogue, group=shifted))])
    words = replace(slates.catalogue, names=tuple(f"i{n}" for n in range(len(slates.catalogue))))
    with pytest.raises(DataError, match="not in the catalogue"):
        evaluate(model(), [replace(slates, catalogue=words)])
    larger = np.asarray(slates.slate).copy()
    larger[0, 0, 1] = 5000
    with pytest.raises(DataError, match="beyond the"):
        evaluate(model(), [replace(slates, slate=larger)])


def test_one_broken_line_in_a_long_file_is_named(tmp_path: Path) -> None:
    lines = [f"u{n // 4},{n // 2},{n % 2 + 1},{n % 50},0" for n in range(4000)]
    lines[3210] = "u802,1605,1,5,0,surplus"
    (tmp_path / "log.csv").write_text("user,time,slot,item,click\n" + "\n".join(lines))
    with pytest.raises(DataError, match=r"line 3212|readable"):
        read_slates(tmp_path / "log.csv")


def test_empty_histories_and_too_many_items_are_answered() -> None:
    assert len(model().recommend([], 5).items) == 5
    with pytest.raises(DataError, match="may be shown"):
        model().recommend([], 10_000)
    with pytest.raises(ConfigError, match="at least one item"):
        model().recommend([], 0)


def test_ten_thousand_clicks_of_one_user_are_kept_in_order_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    from recsys.serve import app as room
    from recsys.serve.engine import Engine
    from recsys.serve.store import Click, Store

    monkeypatch.setattr(room, "MOST_WAITING", 40)
    monkeypatch.setattr(room, "GATHER_S", 0.0)
    engine = Engine("recsys-simulated", Store(tmp_path / "s.db"))

    async def press() -> list[Any]:
        batcher = room.Batcher(engine.click_each, lambda click: click.user)
        runner = asyncio.create_task(batcher.run())
        clicks = [Click("u", str(3 + number), f"k{number}") for number in range(10_000)]
        found = await asyncio.gather(*(batcher.add(click) for click in clicks), return_exceptions=True)
        runner.cancel()
        return found

    with ThreadPoolExecutor(1) as elsewhere:  # this thread may have a loop of its own
        found = elsewhere.submit(lambda: asyncio.run(press())).result()
    kept = [step for step in found if isinstance(step, int)]
    refused = [error for error in found if isinstance(error, RecurraError)]
    assert kept == list(range(1, 41))
    assert len(refused) == 9960
    assert engine.store is not None
    assert engine.store.events("u") == [str(3 + number) for number in range(20, 40)]
