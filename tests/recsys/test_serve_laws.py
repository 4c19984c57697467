"""Serving laws: kills, deleted and full stores, Redis, snapshots, arms, new items, logs that forget."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.bundled import find
from core.errors import ConfigError, DataError
from recsys.serve.arms import Arms, bucket
from recsys.serve.engine import Engine
from recsys.serve.snapshots import publish
from recsys.serve.store import AnyStore, Click, Store

pytest.importorskip("fastapi")
WEIGHTS = "recsys-simulated"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(params=["sqlite", "redis"])
def store(request: Any, tmp_path: Path) -> Iterator[AnyStore]:
    """Both kinds of stores, the second one on a real server."""
    if request.param == "sqlite":
        kept = Store(tmp_path / "s.db")
        yield kept
        kept.close()
        return
    pytest.importorskip("redis")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on this machine")
    port = free_port()
    words = [program, "--port", str(port), "--save", "", "--dir", str(tmp_path), "--bind", "127.0.0.1"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as server:
        from recsys.serve.redis_store import RedisStore

        try:
            found = waiting(lambda: RedisStore(f"redis://127.0.0.1:{port}/0"), server)
            yield found
            found.close()
        finally:
            server.terminate()


def waiting(make: Any, server: subprocess.Popen[bytes]) -> Any:
    """What `make` gives once it does not fail; a server starts in seconds, on a busy machine in minutes."""
    until = time.monotonic() + 200
    while True:
        try:
            return make()
        except (DataError, OSError):
            if server.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.1)


def test_clicks_states_items_and_forgetting_are_the_same_in_every_store(store: AnyStore) -> None:
    one, two = Engine(WEIGHTS, store), Engine(WEIGHTS, store)
    assert one.click([Click("u", "40", "a"), Click("v", "41", "b")]) == [1, 1]
    assert two.click([Click("u", "90", "c")]) == [2]
    assert one.click([Click("u", "90", "c")]) == [2]
    assert store.events("u") == ["40", "90"]
    assert one.recommend("u", 4, policy="greedy")["items"] == one.model.recommend([40, 90], 4).items
    assert one.add({"fresh": 5}) == 1
    assert one.retire([40]) == 1
    two.refresh()
    assert two.model.catalogue.numbers(["fresh"])[0] == len(two.base.catalogue)
    everything = two.recommend("u", len(two.model.catalogue) - 4, policy="greedy")["items"]
    assert "fresh" in everything
    assert "40" not in everything
    assert store.forget("u")
    assert not store.forget("u")
    assert store.get(["u", "v"])[0] is None
    assert store.events("u") == []
    for number in range(30):
        one.click([Click("w", str(100 + number), f"w{number}")])
    assert len(store.events("w")) == 20


def test_a_deleted_store_is_noticed_and_replaced(tmp_path: Path) -> None:
    kept = Store(tmp_path / "s.db")
    engine = Engine(WEIGHTS, kept)
    engine.click([Click("u", "40", "a")])
    for file in tmp_path.glob("s.db*"):
        file.unlink()
    with pytest.raises(DataError, match="deleted"):
        engine.click([Click("u", "41", "b")])
    assert engine.click([Click("u", "41", "b")]) == [1]
    assert (tmp_path / "s.db").exists()


def test_a_full_disk_keeps_nothing_of_a_batch_and_says_so(tmp_path: Path) -> None:
    kept = Store(tmp_path / "s.db")
    engine = Engine(WEIGHTS, kept)
    engine.click([Click("u", "40", "a")])
    pages = kept.base.execute("PRAGMA page_count").fetchone()[0]
    kept.base.execute(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(DataError, match="could not keep"):
        engine.click([Click(f"user {number}", "41", f"k{number}") for number in range(200)])
    kept.base.execute("PRAGMA max_page_count=1000000")
    assert kept.get(["user 0"]) == [None]
    assert engine.click([Click("u", "41", "b")]) == [2]


def test_a_clock_that_goes_backwards_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(WEIGHTS, Store(tmp_path / "s.db"), log=tmp_path / "log")
    times = iter([1e9, 9e8, 8e8, 8e8, 7e8, 7e8, 7e8, 7e8, 7e8, 7e8])
    monkeypatch.setattr(time, "time", lambda: next(times, 6e8))
    assert engine.click([Click("u", "40", "a")]) == [1]
    assert engine.click([Click("u", "41", "b")]) == [2]
    assert engine.click([Click("u", "40", "a")]) == [1]
    assert engine.store is not None
    assert engine.store.events("u") == ["40", "41"]
    assert engine.store.sweep() == 0


def test_arms_have_their_shares_and_another_key_deals_anew() -> None:
    arms = Arms.read("greedy=20,inslate=80")
    users = [f"user {number}" for number in range(4000)]
    share = sum(arms.policy(user) == "greedy" for user in users) / len(users)
    assert abs(share - 0.2) < 0.03
    assert arms.policy("user 7") == arms.policy("user 7")
    other = Arms.read("greedy=20,inslate=80", "second test")
    assert sum(arms.bucket(user) == other.bucket(user) for user in users) < 100
    for wrong in ("greedy=50", "best", "greedy=x,inslate=50", "greedy=120,inslate=-20"):
        with pytest.raises(ConfigError):
            Arms.read(wrong)
    assert bucket("a") == Arms.read("greedy").bucket("a")


def test_a_published_snapshot_is_taken_over_and_old_states_are_computed_again(tmp_path: Path) -> None:
    from core.weights import load, save

    publish(WEIGHTS, tmp_path / "snapshots")
    engine = Engine(str(tmp_path / "snapshots" / "current"), Store(tmp_path / "s.db"))
    engine.click([Click("u", "40", "a")])
    first = engine.snapshot
    assert not engine.refresh()
    tensors, card = load(find(WEIGHTS))
    tensors = {name: tensor * 1.01 if name == "items.centre" else tensor for name, tensor in tensors.items()}
    save(tmp_path / "new.safetensors", tensors, card)
    publish(tmp_path / "new.safetensors", tmp_path / "snapshots")
    assert engine.refresh()
    assert engine.snapshot != first
    answer = engine.recommend("u", 3, policy="greedy")
    assert answer["recomputed"]
    assert answer["items"] == engine.model.recommend([40], 3).items
    file = tmp_path / "snapshots" / "current" / "model.safetensors"
    file.unlink()  # what is mapped is replaced, never written into
    file.write_bytes(b"damaged")
    assert not engine.refresh()
    assert engine.recommend("u", 3, policy="greedy")["items"] == answer["items"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs the list of mappings of a process")
def test_a_published_snapshot_is_mapped_and_answers_as_the_weights_do(tmp_path: Path) -> None:
    folder = publish(WEIGHTS, tmp_path / "snapshots")
    engine = Engine(str(tmp_path / "snapshots" / "current"), None)
    places = [engine.model.network.items.mean.data_ptr(), engine.model.network.clicked.data_ptr()]
    spans = [
        [int(edge, 16) for edge in line.split()[0].split("-")]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if str(folder.resolve()) in line
    ]
    assert all(any(low <= place < high for low, high in spans) for place in places)
    read = Engine(WEIGHTS, None)
    answers = [one.recommend("u", 4, clicks=[40, 90], policy="inslate")["items"] for one in (engine, read)]
    assert answers[0] == answers[1]


def test_slates_are_logged_with_their_click_and_forgotten(tmp_path: Path) -> None:
    from recsys.journal import replay

    engine = Engine(WEIGHTS, Store(tmp_path / "s.db"), log=tmp_path / "log", secret="salt", policy="ts")
    name = engine.known_as("anna")
    assert name != "anna"
    for number in range(3):
        answer = engine.recommend("anna", 4, period=number)
        assert engine.journal is not None
        assert answer["user"] == name
        event = {"slate": answer["items"], "click": answer["items"][1], "kind": "rec"}
        engine.click([Click(name, json.dumps(event), f"k{number}")])
        assert engine.journal.clicked(answer["slate_id"], answer["items"][1])
    engine.recommend("bert", 4)
    assert engine.journal is not None
    assert engine.journal.flush(time.time(), everything=True) == 16
    found = replay(engine.model, tmp_path / "log")
    assert (found["slates"], found["same"]) == (4, 4)
    assert engine.counters.observed == 3
    assert engine.counters.predicted > 0
    assert engine.forget("anna")
    left = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert name.encode() not in left
    assert b"anna" not in left
    assert replay(engine.model, tmp_path / "log")["slates"] == 1


def test_a_killed_server_has_lost_nothing_that_it_answered(tmp_path: Path) -> None:
    port = free_port()
    words = [sys.executable, "-m", "core", "recsys", "serve", "--weights", WEIGHTS, "--port", str(port),
             "--store", str(tmp_path / "s.db")]  # fmt: skip
    with subprocess.Popen(
        words, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as server:
        address = f"http://127.0.0.1:{port}"

        def ask(path: str, body: dict[str, Any] | None = None) -> Any:
            data = None if body is None else json.dumps(body).encode()
            headers = {"content-type": "application/json"}
            with urllib.request.urlopen(
                urllib.request.Request(address + path, data, headers), timeout=200
            ) as answer:
                return answer.read()

        try:
            waiting(lambda: ask("/ready"), server)
            page = ask("/docs").decode()
            assert "/recommend" in page
            assert "http://" not in page.replace(address, "")
            answered = []
            for number in range(25):
                body = {"user": f"u{number % 5}", "item": 10 + number, "key": str(number)}
                answered.append(json.loads(ask("/click", body))["step"])
        finally:
            server.send_signal(signal.SIGKILL)
    kept = Store(tmp_path / "s.db")
    assert [row.step if row else 0 for row in kept.get([f"u{number}" for number in range(5)])] == [5] * 5
    assert sorted(answered) == sorted([1, 2, 3, 4, 5] * 5)
    assert [json.loads(text) for text in kept.events("u3")] == [13, 18, 23, 28, 33]


@pytest.mark.parametrize("weights", [WEIGHTS, "recsys-filter"])
def test_slates_of_strangers_and_of_given_clicks_can_be_made_again(weights: str, tmp_path: Path) -> None:
    from recsys.journal import replay

    engine = Engine(weights, Store(tmp_path / "s.db"), log=tmp_path / "log", policy="inslate")
    assert engine.recommend("new", 4)["served_by"] == "prior"
    assert engine.journal is not None
    assert engine.journal.flush(time.time(), everything=True) == 4
    assert replay(engine.model, tmp_path / "log")["same"] == 1
    given = engine.recommend("new", 4, clicks=[40, 90], policy="greedy")
    assert given["served_by"] == "clicks"
    if weights == WEIGHTS:  # particles of a state and of a history are other draws
        assert given["items"] == engine.model.recommend([40, 90], 4).items
