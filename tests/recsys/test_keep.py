"""Later on: refreshed posteriors, drift, logs that can be made again, graphs for other programs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import ConfigError, DataError
from core.weights import load, save
from recsys.data import read_slates
from recsys.drift import drift
from recsys.journal import forget, replay, rows_of, write_rows
from recsys.model import load_model
from recsys.ope_actions import estimate, read_log
from recsys.predict import recommend
from recsys.refresh import refresh
from recsys.slates import FIRST, Slates
from tests.recsys.market import kept, log, model


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The small model with a state that tells users apart, on disk."""
    return kept(tmp_path / "w.safetensors")


def part_of(slates: Slates, rows: slice) -> Slates:
    return slates.rows(rows)


def test_a_refresh_moves_the_rows_it_has_seen_alone_and_explains_the_log_better(
    weights: Path, tmp_path: Path
) -> None:
    slates = log().slates.rows(slice(0, 12))
    report = refresh(weights, slates, tmp_path / "w2.safetensors", forgetting=0.99, passes=6)
    before, _ = load(weights)
    after, card = load(tmp_path / "w2.safetensors")
    seen = np.unique(np.asarray(slates.slate))
    seen = seen[seen >= FIRST]
    others = np.setdiff1d(np.arange(len(slates.catalogue)), seen)
    assert report["rows"] == len(seen)
    assert torch.equal(before["items.mean"][others], after["items.mean"][others])
    assert not torch.equal(before["items.mean"][seen], after["items.mean"][seen])
    assert torch.equal(before["items.centre"], after["items.centre"])
    assert report["loglik_after"] > report["loglik_before"] + 0.02
    assert "refreshed with 12 users" in card.data
    clicked = before["clicked"] * 0.99 + torch.bincount(
        torch.from_numpy(np.asarray(slates.click)[slates.counted()].astype(np.int64)),
        minlength=len(slates.catalogue),
    ) * (torch.arange(len(slates.catalogue)) >= FIRST)
    torch.testing.assert_close(after["clicked"][FIRST:], clicked[FIRST:])


def test_two_refreshes_are_one_on_both_logs(weights: Path, tmp_path: Path) -> None:
    """Only new rows are passed the second time; others' log likelihood is that of a refit on the union."""
    slates = log().slates
    first, second, others = (slates.rows(slice(20 * n, 20 * n + 20)) for n in range(3))
    options = {"forgetting": 1.0, "passes": 8}
    refresh(weights, first, tmp_path / "a.safetensors", **options)
    refresh(tmp_path / "a.safetensors", second, tmp_path / "ab.safetensors", **options)
    refresh(weights, slates.rows(slice(0, 40)), tmp_path / "union.safetensors", **options)
    figures = [
        load_model(str(tmp_path / f"{name}.safetensors")).evaluate(others)["model"]["loglik"]
        for name in ("ab", "union")
    ]
    before = load_model(str(weights)).evaluate(others)["model"]["loglik"]
    assert abs(figures[0] - figures[1]) < 0.01
    assert min(figures) > before
    found = [load(tmp_path / f"{name}.safetensors")[0]["clicked"] for name in ("ab", "union")]
    torch.testing.assert_close(*found)


def test_items_enter_with_their_groups_prior_and_leave(weights: Path, tmp_path: Path) -> None:
    refresh(weights, None, tmp_path / "w2.safetensors", add={"new": 4}, retire=["10", "11"])
    changed = load_model(str(tmp_path / "w2.safetensors"))
    table = changed.network.items
    number = int(changed.catalogue.numbers(["new"])[0])
    torch.testing.assert_close(table.tables().v[number], table.centre[4])
    assert float(table.log_scale[number].abs().max()) == 0
    assert changed.catalogue.numbers(["10", "11"]).tolist() == [2, 2]
    assert len(changed.catalogue) == len(model().catalogue) - 1
    left = recommend(changed, ["40", "90"], len(changed.catalogue) - FIRST, "greedy").items
    assert "new" in left
    assert not {"10", "11"} & set(left)
    with pytest.raises(DataError, match="already"):
        refresh(weights, None, tmp_path / "x", add={"10": 4})
    with pytest.raises(DataError, match="not in the catalogue"):
        refresh(weights, None, tmp_path / "x", retire=["nothing"])
    with pytest.raises(DataError, match="group 99"):
        refresh(weights, None, tmp_path / "x", add={"new": 99})
    with pytest.raises(ConfigError, match="forgetting"):
        refresh(weights, None, tmp_path / "x", forgetting=0)


def test_of_a_pair_both_tables_go_on_as_they_would_alone(tmp_path: Path) -> None:
    pair = kept(tmp_path / "pair.safetensors", "pair")
    tensors, card = load(pair)
    for part, kind in (("network", "interest"), ("filter", "filter")):
        own = {name.removeprefix(f"{part}."): one for name, one in tensors.items() if f"{part}." in name}
        shared = {name: one for name, one in tensors.items() if name.startswith(("counts.", "catalogue."))}
        settings = {"model": card.settings["model"][part]}
        alone = replace(card, settings=settings, extra={**card.extra, "kind": kind})
        save(tmp_path / f"{part}.safetensors", own | shared, alone)
    slates = log().slates.rows(slice(0, 12))
    options = {"forgetting": 0.99, "passes": 4}
    report = refresh(pair, slates, tmp_path / "after.safetensors", **options)
    assert report["loglik_after"] > report["loglik_before"]
    after, card = load(tmp_path / "after.safetensors")
    assert card.extra["kind"] == "pair"
    for part in ("network", "filter"):
        refresh(tmp_path / f"{part}.safetensors", slates, tmp_path / "one.safetensors", **options)
        one, _ = load(tmp_path / "one.safetensors")
        for name, tensor in one.items():
            shared = name.startswith(("counts.", "catalogue."))
            assert torch.equal(after[name if shared else f"{part}.{name}"], tensor), name
    refresh(tmp_path / "after.safetensors", None, tmp_path / "new.safetensors", add={"new": 4}, retire=["10"])
    found = load_model(str(tmp_path / "new.safetensors"))
    for part in (found.network.network, found.network.filter):
        torch.testing.assert_close(part.items.tables().v[-1], part.items.centre[4])
    left = recommend(found, ["40", "90"], len(found.catalogue) - FIRST, "greedy").items
    assert "new" in left
    assert "10" not in left
    with pytest.raises(DataError, match="group 99 of item"):
        refresh(pair, None, tmp_path / "x", add={"new": 99})


def test_weights_without_a_table_of_items_say_which_have_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train --model network, filter or pair"):
        refresh(kept(tmp_path / "w.safetensors", "linear"), None, tmp_path / "x")


def test_a_day_on_which_everything_is_other_raises_the_alarm() -> None:
    slates = log(200).slates
    click_idx = np.array(slates.click_idx)
    day = np.arange(len(slates)) // 20
    time = np.repeat((day * 86_400.0)[:, None], slates.steps, 1)
    moved = day == 8
    last = np.maximum(np.asarray(slates.lengths) - 1, 0)
    click_idx[moved] = last[moved]  # everybody takes the last slot
    click = np.take_along_axis(np.asarray(slates.slate), click_idx[..., None].astype(int), 2)[..., 0]
    changed = replace(slates, click_idx=click_idx, click=click, time=time)
    calm, moved_log = drift(model(), replace(slates, time=time)), drift(model(), changed)
    assert calm["alarms"] == []
    assert moved_log["alarms"] == ["1970-01-09"]
    row = moved_log["periods"][8]
    assert row["loglik"] < row["low"]
    assert 1 <= len(row["groups"]) <= 3
    assert drift(model(), slates)["periods"][0]["period"] == "part 00"


def served(people: int = 4, rounds: int = 3) -> list[dict[str, Any]]:
    """Rows of slates that were shown one after the other, the second item clicked each time."""
    found, rows = model(), []
    for user in range(people):
        history: list[Any] = []
        for time in range(rounds):
            slate = recommend(found, history, 4, "ts", 7, user=f"u{user}", period=time, repeats=5)
            clicked = slate.items[1] if time % 2 == 0 else None
            rows += rows_of(slate, 100.0 * user + time, clicked, snapshot="s", bucket=3)
            history.append({"slate": slate.items, "click": clicked, "kind": "rec"})
    return rows


def test_a_logged_slate_is_made_again_and_other_commands_read_the_log(tmp_path: Path) -> None:
    rows = served()
    write_rows(tmp_path / "log.parquet", rows)
    answer = replay(model(), tmp_path / "log.parquet")
    assert (answer["slates"], answer["same"], answer["different"]) == (12, 12, [])
    rows[5]["seed"] = rows[4]["seed"] = rows[6]["seed"] = rows[7]["seed"] = 8
    rows[4]["item"], rows[5]["item"] = rows[5]["item"], rows[4]["item"]
    write_rows(tmp_path / "other.parquet", rows)
    assert replay(model(), tmp_path / "other.parquet")["same"] < 12
    slates = read_slates(tmp_path / "log.parquet")
    assert len(slates) == 4
    assert int((np.asarray(slates.lengths) > 0).sum()) == 12
    figures = estimate(read_log(tmp_path / "log.parquet"), "random")
    assert figures["n"] == 48
    assert figures["unknown"] == sum(row["propensity"] is None for row in rows)
    sure = [row | {"draws": 0} for row in rows]
    write_rows(tmp_path / "sure.parquet", sure)
    other = estimate(read_log(tmp_path / "sure.parquet"), "random")["estimates"]["ips"]
    ours = figures["estimates"]["ips"]
    assert ours["value"] == pytest.approx(other["value"])
    assert ours["value_high"] > other["value_high"]
    (tmp_path / "bare.csv").write_text("user,time,slot,item,click\n1,1,1,5,0\n")
    with pytest.raises(DataError, match="no column 'policy'"):
        replay(model(), tmp_path / "bare.csv")


def test_a_forgotten_user_leaves_the_log(tmp_path: Path) -> None:
    rows = served()
    write_rows(tmp_path / "a.parquet", rows)
    write_rows(tmp_path / "b.parquet", [row for row in rows if row["user"] == "u1"])
    assert forget(tmp_path, "u1") == 24
    assert not (tmp_path / "b.parquet").exists()
    assert b"u1" not in (tmp_path / "a.parquet").read_bytes().replace(b"u10", b"")
    assert replay(model(), tmp_path / "a.parquet")["same"] == 9


def test_graphs_of_state_and_scores_answer_as_torch_does(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    import pyarrow.parquet as pq

    from core.state import tensors
    from recsys.export import export, warm

    report = export(model(), tmp_path, 5)
    assert report["difference"] < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "score.onnx"))
    state = warm(model(), 4)
    feed = {f"state{index}": part.numpy() for index, part in enumerate(tensors(state))}
    known = {one.name for one in session.get_inputs()}
    items, _ = session.run(None, {name: part for name, part in feed.items() if name in known})
    expected = (
        model().network.rank_state(state).sort(dim=1, descending=True, stable=True).indices[:, :5].numpy()
    )
    assert (items == expected).all()
    table = pq.read_table(tmp_path / "items.parquet")
    vectors = np.load(tmp_path / "items.npy")
    assert table.num_rows == len(vectors) == len(model().catalogue) - FIRST
    np.testing.assert_allclose(np.stack(table["vector"].to_numpy()), vectors)
    with pytest.raises(ConfigError, match="the network that it was started from"):
        export(model("filter"), tmp_path / "f")
    with pytest.raises(ConfigError, match=r"Export its network: --weights recsys-gru .*RUN/1-network"):
        export(model("pair"), tmp_path / "p")
    with pytest.raises(ConfigError, match="train --model network"):
        export(model("linear"), tmp_path / "l")
    assert not (tmp_path / "p").exists()
