"""Serving: states in a store, idempotent clicks, forgetting, degrading, hostile bodies."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import ConfigError, DataError
from core.state import from_bytes, tensors
from core.steps.quick import NEVER
from recsys.serve.arms import bucket
from recsys.serve.engine import Engine
from recsys.serve.store import Click, Store
from recsys.slates import FIRST
from tests.recsys.market import kept

testclient = pytest.importorskip("fastapi.testclient")
WEIGHTS = "recsys-simulated"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    one = Store(tmp_path / "s.db")
    yield one
    one.close()


@pytest.fixture
def engine(store: Store) -> Engine:
    return Engine(WEIGHTS, store)


@pytest.fixture
def client(engine: Engine) -> Iterator[Any]:
    from recsys.serve.app import create_app

    with testclient.TestClient(create_app(engine, poll_s=60)) as found:
        yield found


def test_a_click_moves_the_state_and_a_repeated_key_does_nothing(client: Any, engine: Engine) -> None:
    first = client.post("/click", json={"user": "u", "item": 40, "key": "a"}).json()
    again = client.post("/click", json={"user": "u", "item": 40, "key": "a"}).json()
    second = client.post("/click", json={"user": "u", "item": 90, "key": "b"}).json()
    assert (first["step"], again["step"], second["step"]) == (1, 1, 2)
    assert engine.store is not None
    row = engine.store.get(["u"])[0]
    assert row is not None
    kept = from_bytes(row.h, engine.model.network.initial_state(1))
    whole = engine.model.state([40, 90])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(tensors(kept), tensors(whole), strict=True))
    answer = client.post("/recommend", json={"user": "u", "k": 5, "policy": "greedy"}).json()
    assert answer["served_by"] == "state"
    assert answer["items"] == engine.model.recommend([40, 90], 5).items
    assert {"snapshot", "seed", "policy", "bucket", "propensities"} <= set(answer)


def test_what_waits_together_is_done_together_but_one_of_an_owner_at_a_time() -> None:
    from recsys.serve.app import Batcher

    async def play() -> list[list[str]]:
        batches: list[list[str]] = []
        batcher = Batcher(lambda pieces: batches.append(pieces) or pieces, lambda piece: piece[0])
        runner = asyncio.create_task(batcher.run())
        asked = ["a1", "b1", "a2", "c1", "a3", "b2"]
        assert await asyncio.gather(*(batcher.add(piece) for piece in asked)) == asked
        runner.cancel()
        return batches

    assert asyncio.run(play()) == [["a1", "b1", "c1"], ["a2", "b2"], ["a3"]]


def test_many_clicks_at_once_are_kept_in_order(client: Any, engine: Engine) -> None:
    def press(user: int) -> None:
        for number in range(5):
            body = {"user": f"u{user}", "item": 10 + number, "key": str(number)}
            assert client.post("/click", json=body).status_code == 200

    threads = [threading.Thread(target=press, args=(user,)) for user in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine.store is not None
    for user in range(6):
        assert [json.loads(text) for text in engine.store.events(f"u{user}")] == [10, 11, 12, 13, 14]
    assert "recurra_clicks_total 30" in client.get("/metrics").text


def test_no_click_waits_for_a_compiler(engine: Engine) -> None:
    """A unit that steps often writes its step down; that of a server never does, nor with new items."""
    for added in ({}, {"new": 4}):
        if added:
            engine.add(added)
        quick = engine.model.network.unit.__dict__["_quick"]
        assert quick.often == NEVER
        quick.calls = 10**6
        engine.click([Click("u", "40", f"{len(added)}")])
        assert engine.model.network.unit.__dict__["_quick"] is quick
        assert (quick.calls, quick.way) == (10**6 + 1, None)


def test_a_pair_serves_and_takes_new_items(tmp_path: Path) -> None:
    engine = Engine(str(kept(tmp_path / "pair.safetensors", "pair")), Store(tmp_path / "s.db"))
    assert engine.click([Click("u", "40", "a")]) == [1]
    assert engine.click([Click("u", "90", "b")]) == [2]
    answer = engine.recommend("u", 4, policy="greedy")
    assert answer["served_by"] == "state"
    state = engine.model.state([40, 90])
    assert answer["items"] == engine.model.recommend([], 4, state=state).items
    assert engine.add({"new": 4}) == 1
    everything = engine.recommend("u", len(engine.model.catalogue) - FIRST, policy="greedy")["items"]
    assert "new" in everything
    assert engine.recommend("u", 1, policy="inslate", candidates=["new"])["items"] == ["new"]
    with pytest.raises(DataError, match="group 99 is not one of"):
        engine.add({"newer": 99})


def test_a_forgotten_user_leaves_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    engine = Engine(WEIGHTS, Store(path))
    assert engine.store is not None
    names = [f"person-{(number * 7919) % 997:05d}" for number in range(300)]
    for start in range(0, 300, 50):
        engine.click([Click(name, "40", f"{name}-k") for name in names[start : start + 50]])
    gone = names[::10]
    for name in gone:
        assert engine.store.forget(name)
    left = b"".join(file.read_bytes() for file in tmp_path.glob("s.db*"))
    assert not [name for name in gone if name.encode() in left]
    assert names[1].encode() in left
    assert not engine.store.forget("nobody")


def test_two_stores_on_one_file_agree(tmp_path: Path) -> None:
    one, two = (Engine(WEIGHTS, Store(tmp_path / "s.db")) for _ in range(2))
    for number in range(6):
        (one, two)[number % 2].click([Click("u", str(20 + number), f"k{number}")])
    assert two.click([Click("u", "25", "k5")]) == [6]
    assert one.store is not None
    row = one.store.get(["u"])[0]
    assert row is not None
    assert row.step == 6


def test_a_state_of_another_snapshot_is_computed_again(engine: Engine) -> None:
    engine.click([Click("u", "40", "a")])
    engine.snapshot = "another"
    answer = engine.recommend("u", 4, policy="greedy")
    assert answer["recomputed"]
    assert answer["items"] == engine.model.recommend([40], 4).items
    assert engine.click([Click("u", "90", "b")]) == [2]


def test_without_a_store_the_given_clicks_serve(tmp_path: Path) -> None:
    bare = Engine(WEIGHTS, None)
    assert bare.recommend("u", 3, clicks=[40])["served_by"] == "clicks"
    assert bare.recommend("u", 3)["served_by"] == "prior"
    with pytest.raises(DataError, match="no store"):
        bare.click([Click("u", "40", "a")])
    broken = Engine(WEIGHTS, Store(tmp_path / "s.db"))
    assert broken.store is not None
    broken.store.close()
    with pytest.raises((DataError, Exception)):
        broken.click([Click("u", "40", "a")])


def test_retired_items_are_never_shown(client: Any, engine: Engine) -> None:
    best = client.post("/recommend", json={"user": "v", "k": 3, "policy": "greedy"}).json()["items"]
    assert client.post("/items", json={"retire": best}).json() == {"retired": 3, "added": 0}
    after = client.post("/recommend", json={"user": "v", "k": 3, "policy": "greedy"}).json()["items"]
    assert not set(best) & set(after)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/recommend", {}),
        ("/recommend", {"user": "u", "k": 0}),
        ("/recommend", {"user": "u", "k": 10_000}),
        ("/recommend", {"user": "u", "policy": "best"}),
        ("/recommend", {"user": "u", "clicks": [1.5]}),
        ("/recommend", {"user": "u", "clicks": [{"slate": [5], "click": 6}]}),
        ("/recommend", {"user": "u", "extra": 1}),
        ("/recommend", {"user": {"a": 1}}),
        ("/recommend", {"user": "u", "candidates": [5], "k": 2}),
        ("/click", {"user": "u", "key": "a"}),
        ("/click", {"user": "u", "item": 5, "slate": [6], "key": "a"}),
        ("/click", {"user": "", "item": 5, "key": "a"}),
        ("/click", {"user": "u", "item": -5, "key": "a"}),
        ("/forget", {"user": None}),
        ("/items", {"retire": "all"}),
        ("/items", {}),
        ("/items", {"add": [{"item": "x", "group": 999}]}),
    ],
)
def test_a_wrong_body_is_one_sentence(client: Any, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert list(answer.json()) == ["error"]
    assert "\n" not in answer.json()["error"]
    assert "Traceback" not in answer.text


def test_a_body_that_is_too_large_or_no_json_is_refused(client: Any) -> None:
    assert client.post("/recommend", content=b"x" * (2 << 20)).status_code == 413
    pieces = (b"x" * 65_536 for _ in range(40))  # nothing says how long it will be
    assert client.post("/recommend", content=pieces).status_code == 413
    json_pieces = (part for part in (b'{"user": "u",', b' "k": 2}'))
    told = client.post("/recommend", content=json_pieces, headers={"Content-Type": "application/json"})
    assert len(told.json()["items"]) == 2
    assert client.post("/recommend", content=b"{]").status_code == 422
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json()["status"] == "ready"


def test_buckets_are_stable_and_even() -> None:
    counts = torch.bincount(torch.tensor([bucket(f"user {n}") for n in range(20_000)]), minlength=100)
    assert counts.min() > 130
    assert bucket("user 1") == bucket("user 1")


def test_a_damaged_or_foreign_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match=r"junk\.db"):
        Store(tmp_path / "junk.db")
    kept = Store(tmp_path / "old.db")
    kept.base.execute("UPDATE meta SET version=99")
    kept.close()
    with pytest.raises(DataError, match="version 99"):
        Store(tmp_path / "old.db")


def test_slates_of_a_batch_are_those_of_one_at_a_time(engine: Engine) -> None:
    for number, user in enumerate(("a", "b", "c")):
        engine.click([Click(user, str(40 + number), f"first-{user}")])
    requests = [{"user": user, "k": 4, "policy": policy, "period": 3} for user in ("a", "b", "new", "c")
                for policy in ("greedy", "inslate")]  # fmt: skip
    requests.append({"user": "a", "k": 10**6})
    together = engine.recommend_each(requests)
    alone = [engine.recommend_each([request])[0] for request in requests]
    assert isinstance(together[-1], DataError)
    for one, other in zip(together[:-1], alone[:-1], strict=True):
        assert isinstance(one, dict)
        assert isinstance(other, dict)
        assert one["items"] == other["items"]
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-4)
        assert one["served_by"] == ("prior" if one["user"] == "new" else "state")


def test_the_retrieval_is_audited_at_the_start_and_later(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (engine.counters.wanted, engine.counters.found) == (1600, 1600)
    monkeypatch.setattr("recsys.serve.engine.AUDITED", 2)
    engine.click([Click("u", "40", "a")])
    for period in range(4):
        engine.recommend("u", 3, period=period)
    assert (engine.counters.wanted, engine.counters.found) == (1800, 1800)


@pytest.mark.parametrize("library", ["faiss", "usearch"])
def test_distances_of_the_paper_are_served_from_neighbour_lists(library: str, store: Store) -> None:
    from recsys.serve.app import create_app

    pytest.importorskip(library)
    engine = Engine("recsys-linear", store, policy="greedy", ann=library)
    lists, model = engine.model.network.lists, engine.model
    assert engine.recall > 0.9
    engine.click([Click("u", "40", "a")])
    engine.click([Click("u", "90", "b")])
    exact = model.recommend([40, 90], 8).items
    assert engine.recommend("u", 8)["items"] == exact
    without = engine.recommend("u", 7, deny=[exact[0]])
    assert without["items"] == exact[1:]
    assert without["scores"] == pytest.approx(model.recommend([40, 90], 8).scores[1:], abs=1e-4)
    candidates = lists.candidates(model.network.user(model.state([40, 90]))[0].numpy())
    assert len(candidates) < 1300 < len(model.catalogue)
    drawn = [engine.recommend("u", 8, policy="inslate", period=n, temperature=2.0) for n in range(6)]
    known = {model.catalogue.name(item + FIRST) for item in candidates.tolist()}
    assert {item for one in drawn for item in one["items"]} <= known
    assert len({tuple(one["items"]) for one in drawn}) > 1
    few = [item for item in range(FIRST, len(model.catalogue)) if model.catalogue.name(item) not in known][:9]
    assert set(engine.recommend("u", 9, candidates=few)["items"]) == set(few)  # the lists hold none of them
    with testclient.TestClient(create_app(engine, poll_s=60)) as client:
        rows = dict(line.split(" ") for line in client.get("/metrics").text.splitlines())
        assert float(rows["recurra_retrieval_recall"]) == pytest.approx(engine.recall, abs=1e-6)
        refused = client.post("/items", json={"add": [{"item": "x", "group": 4}]})
        assert refused.status_code == 422
        assert "take no new items" in refused.json()["error"]


def test_neighbour_lists_are_for_scores_that_need_them() -> None:
    with pytest.raises(ConfigError, match="is answered without neighbour lists"):
        Engine(WEIGHTS, None, ann="faiss")
