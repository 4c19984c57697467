"""Next-item models: readers, every block in the shell, stepping, ranking beside the baselines."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.config import replace as changed
from core.errors import ConfigError, DataError
from recsys.config import NextConfig, NextRun
from recsys.sequences.batches import Drawer, LaneBatches, RowBatches
from recsys.sequences.contest import config_of, contest, lines
from recsys.sequences.data import Sequences, divided, left_padded, read_sequences
from recsys.sequences.evaluate import evaluate_next, ranks_of
from recsys.sequences.model import BLOCKS, Mixer, NextItem
from recsys.sequences.train import train_next


def walks(users: int = 80, items: int = 30) -> Sequences:
    """Everybody goes on by one item, or by seven: what follows is known up to a coin."""
    random = np.random.default_rng(0)
    lists = []
    for _ in range(users):
        steps = random.choice([1, 7], 11, p=[0.8, 0.2])
        lists.append((random.integers(items) + np.concatenate([[0], steps.cumsum()])) % items + 1)
    names = tuple(f"i{number}" for number in range(1, items + 1))
    return Sequences(tuple(lists), tuple(map(str, range(users))), names, "walks")


def test_lines_and_tables_are_read_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("u 10 9 10\nv 11 9\n")
    (tmp_path / "b.csv").write_text("session,item,time\nv,9,2\nu,10,1\nu,10,3\nu,9,2\nv,11,1\n")
    lines, table = read_sequences(tmp_path / "a.txt"), read_sequences(tmp_path / "b.csv")
    assert lines.names == table.names == ("9", "10", "11")
    rows = {user: part.tolist() for user, part in zip(table.users, table.items, strict=True)}
    assert rows == {"u": [2, 1, 2], "v": [3, 1]}
    assert [part.tolist() for part in lines.items] == [rows["u"], rows["v"]]


def test_bad_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("u 1 2\nv\n")
    (tmp_path / "b.csv").write_text("who,what\n1,2\n")
    with pytest.raises(DataError, match="line 2"):
        read_sequences(tmp_path / "a.txt")
    with pytest.raises(DataError, match="no column for user"):
        read_sequences(tmp_path / "b.csv")


@pytest.mark.parametrize("block", [*BLOCKS, "min_gru", "mamba2"])
def test_every_block_fits_the_shell_and_causal_ones_see_no_future(block: str) -> None:
    torch.manual_seed(0)
    config = NextConfig(block=block, hidden=16, length=8, layers=1)
    model = NextItem(config, 30).eval()
    rows = torch.from_numpy(left_padded([np.arange(1, 6), np.arange(3, 14)], 8))
    features = model(rows)
    assert model.scores(features[:, -1]).shape == (2, 31)
    other = rows.clone()
    other[:, -1] = 29
    same = torch.allclose(model(other)[1, :-1], features[1, :-1], atol=1e-5)
    assert same is model.causal


@pytest.mark.parametrize("unit", ["gru", "min_gru", "mamba2", "hgrn"])
def test_a_click_is_one_step_whatever_the_padding(unit: str) -> None:
    torch.manual_seed(0)
    model = Mixer(NextConfig(block=unit, hidden=16, length=8), 30).eval()
    part = np.array([4, 9, 2, 30, 7])
    whole = model(torch.from_numpy(left_padded([part], 8)))[0, -1]
    state = model.initial_state(1)
    for item in part:
        features, state = model.step(torch.tensor([int(item)]), state)
    torch.testing.assert_close(features[0], whole, atol=1e-5, rtol=1e-4)


def test_a_trained_model_beats_popularity_and_resumes(tmp_path: Path) -> None:
    config = changed(
        NextRun(),
        {
            "model": {"block": "sasrec", "hidden": 16, "length": 12, "layers": 1, "dropout": 0.1},
            "loop": {"epochs": 30, "lr": 0.01},
            "batch": 20,
            "negatives": 16,
            "validation": 20,
        },
    )
    train_next(config, walks(), tmp_path / "run", quiet=True)
    report = evaluate_next(walks(), tmp_path / "run")
    assert report["n"] == 80
    assert report["model"]["HR@10"] > report["baselines"]["popularity"]["HR@10"] + 0.1
    assert report["baselines"]["transitions"]["HR@10"] > report["baselines"]["popularity"]["HR@10"]
    with pytest.raises(ConfigError, match="no block"):
        NextItem(NextConfig(block="boat"), 5)


def test_a_run_with_a_budget_goes_on_with_the_steps_it_was_begun_with(tmp_path: Path) -> None:
    settings = {
        "model": {"block": "gru4rec", "hidden": 8, "layers": 1}, "batch": 20, "negatives": 8, "validation": 5,
        "seconds": 0.5, "loop": {"checkpoint_steps": 1},
    }  # fmt: skip
    config = changed(NextRun(), settings)
    train_next(config, walks(), tmp_path / "run", quiet=True)
    steps = int((tmp_path / "run" / "steps.txt").read_text())
    assert steps >= 6
    assert train_next(config, walks(), tmp_path / "run", quiet=True, resume=True).weights.is_file()


def test_what_was_seen_is_removed_but_never_the_target() -> None:
    scores = np.array([[9.0, 5.0, 4.0, 3.0, 2.0]])
    assert ranks_of(scores, [np.array([1, 2])], np.array([3])).tolist() == [1]
    assert ranks_of(scores, [np.array([1, 3])], np.array([3])).tolist() == [2]


def visits(users: int = 60, items: int = 20) -> Sequences:
    """Short sessions over three days, with times and groups."""
    random = np.random.default_rng(1)
    lists, clocks = [], []
    for user in range(users):
        part = (random.integers(items) + np.arange(random.integers(2, 6))) % items + 1
        lists.append(part)
        clocks.append(user * 3 * 86_400.0 / users + 30.0 * np.arange(len(part)))
    names = tuple(f"i{number}" for number in range(1, items + 1))
    groups = np.concatenate([[0], 1 + np.arange(items) // 5])
    return Sequences(tuple(lists), tuple(map(str, range(users))), names, "visits", tuple(clocks), groups)


def test_sessions_of_the_last_day_are_the_test_and_nobody_learns_from_them() -> None:
    data = visits()
    learned, asked = divided(data)
    edge = max(part[-1] for part in data.times or ()) - 86_400
    assert all(part[-1] <= edge + 300 for part in learned.times or ())
    assert len(learned) + len(set(asked.rows.tolist())) == len(data)
    assert asked.seen == "keep"
    history, clock = asked.histories(slice(1))[0], (asked.clocks(slice(1)) or [])[0]
    assert len(clock) == len(history) + 1
    shorter, last = divided(data, "last")
    assert [len(part) + 1 for part in shorter.items] == [len(part) for part in data.items]
    assert last.targets.tolist() == [int(part[-1]) for part in data.items]
    with pytest.raises(ConfigError, match="needs times"):
        divided(walks(), "time")


def test_baselines_know_days_and_groups_and_answers_can_be_sampled() -> None:
    report = evaluate_next(visits(), split="last")
    assert {"popularity", "last_day", "transitions", "item_knn", "last_group"} <= set(report["baselines"])
    assert report["baselines"]["transitions"]["HR@10"] > 0.9
    few = Sequences(tuple(np.array([1, 2, 3]) for _ in range(60)), visits().users, visits().names, "few")
    sampled = evaluate_next(visits(), split="last", negatives=few)
    assert "SAMPLED" in sampled["protocol"]["ranking"]
    assert sampled["baselines"]["random"]["HR@10"] == 1


def test_windows_lie_anywhere_in_a_long_sequence_and_whole_in_a_short_one() -> None:
    parts = (np.arange(1, 21), np.array([30, 31]))
    times = tuple(part * 10.0 for part in parts)
    data = Sequences(parts, ("a", "b"), tuple(map(str, range(1, 41))), "two", times)
    draw, generator = Drawer(data, 2, 0.0), torch.Generator().manual_seed(0)
    make, firsts = RowBatches(data, 5, draw), set()
    for _ in range(200):
        batch = make(torch.tensor([0, 1]), generator)
        assert batch.seen[1].tolist() == [0, 0, 0, 0, 30]
        assert batch.target[1].tolist() == [0, 0, 0, 30, 31]
        assert (batch.target[0] - batch.seen[0]).tolist() == [1] * 5
        assert batch.following is not None
        assert batch.following[0].tolist() == (batch.target[0] * 10.0).tolist()
        firsts.add(int(batch.seen[0, 0]))
    assert firsts == set(range(1, 16))
    short = {
        int((RowBatches(data, 5, draw, True)(torch.tensor([0]), generator).target > 0).sum())
        for _ in range(200)
    }
    assert {2, 5} <= short


def test_lanes_hold_whole_sessions_and_begin_where_one_begins() -> None:
    data = visits()
    batch = LaneBatches(data, 8, 4, Drawer(data, 3, 0.5))(torch.arange(20), torch.Generator().manual_seed(0))
    assert batch.begins is not None
    assert int(batch.begins.sum()) == 20
    assert int((batch.target > 0).sum()) == sum(len(part) - 1 for part in data.items[:20])
    follows = (batch.target == batch.seen % 20 + 1) | (batch.target == 0)
    assert bool(follows.all())
    torch.manual_seed(0)
    block = NextItem(NextConfig(block="gru4rec", hidden=8, layers=1, length=8), 20).eval()
    lane = block(batch.seen, begins=batch.begins)[0]
    first = int(torch.nonzero(batch.begins[0])[1])
    alone = block(batch.seen[:1, first:], begins=batch.begins[:1, first:])[0]
    torch.testing.assert_close(lane[first:], alone)


@pytest.mark.parametrize(("loss", "logq"), [("in_batch", 1.0), ("bpr_max", 0.0)])
def test_session_parallel_training_learns(tmp_path: Path, loss: str, logq: float) -> None:
    config = changed(
        NextRun(),
        {
            "model": {"block": "gru4rec", "hidden": 16, "layers": 1, "dropout": 0.0},
            "loop": {"epochs": 12, "lr": 0.03, "ema": None},
            "loss": loss, "logq": logq, "lanes": 8, "batch": 20, "negatives": 8, "alpha": 0.5,
            "validation": 5, "split": "last", "bpreg": 0.1,
        },
    )  # fmt: skip
    train_next(config, visits(), tmp_path / "run", quiet=True)
    report = evaluate_next(visits(), tmp_path / "run", split="last")
    assert report["model"]["NDCG@10"] > report["baselines"]["popularity"]["NDCG@10"] + 0.2


def test_hstu_reads_the_time_of_the_question() -> None:
    torch.manual_seed(0)
    model = NextItem(NextConfig(block="hstu", hidden=8, layers=1, length=6), 20, timed=True).eval()
    items = torch.tensor([[0, 0, 3, 4, 5, 6]])
    time = torch.tensor([[0.0, 0.0, 10.0, 20.0, 30.0, 40.0]], dtype=torch.float64)
    following = torch.cat([time[:, 1:], torch.tensor([[50.0]], dtype=torch.float64)], 1)
    later = following.clone()
    later[0, -1] = 90_000.0
    soon, after = model(items, time, following), model(items, time, later)
    torch.testing.assert_close(soon[:, :-1], after[:, :-1])
    assert not torch.allclose(soon[:, -1], after[:, -1])


def test_a_contest_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    rows = [f"{user} {' '.join(map(str, part))}" for user, part in enumerate(walks().items)]
    file.write_text("\n".join(rows))
    settings = {"model": {"hidden": 8, "layers": 1, "heads": 1}, "batch": 20, "negatives": 8}
    options = {"seconds": 1.0, "settings": settings}
    answer = contest([str(file)], tmp_path / "out", ["gru4rec"], ["sampled"], **options)
    (row,) = answer["files"]["log"]["models"]
    assert 0 < row["cpu_seconds"] < 60
    assert row["peak_bytes"] > 2**20
    stamp = (tmp_path / "out" / "log-gru4rec-sampled.json").stat().st_mtime_ns
    assert contest([str(file)], tmp_path / "out", ["gru4rec"], ["sampled"], **options) == answer
    assert (tmp_path / "out" / "log-gru4rec-sampled.json").stat().st_mtime_ns == stamp
    assert any("| gru4rec | sampled |" in line for line in lines(answer))
    with pytest.raises(ConfigError, match="no loss"):
        contest([str(file)], tmp_path / "out", ["gru4rec"], ["hinge"])
    with pytest.raises(ConfigError, match="other settings; take another --out"):
        contest([str(file)], tmp_path / "out", ["gru4rec"], ["sampled"], **{**options, "seconds": 2.0})
    with pytest.raises(ConfigError, match="'gru4wreck' is no setting, block, loss or log"):
        contest([str(file)], tmp_path / "out", ["gru4rec"], ["sampled"], settings={"gru4wreck": {}})


def test_settings_of_one_block_loss_or_log_are_for_its_cells() -> None:
    settings = {
        "loop": {"lr": 0.1, "clip": 2.0},
        "gru4rec": {"loop": {"lr": 0.2}, "alpha": 0.1},
        "sampled": {"alpha": 0.5},
        "shop": {"support": 5},
    }
    plain = config_of(settings, ("films", "sasrec", "gbce"), 3.0, 7)
    assert (plain.loop.lr, plain.alpha, plain.support, plain.seconds, plain.seed) == (0.1, 0.0, 1, 3.0, 7)
    own = config_of(settings, ("shop", "gru4rec", "sampled"), 3.0, 7)
    assert (own.loop.lr, own.loop.clip, own.alpha, own.support) == (0.2, 2.0, 0.5, 5)
    assert (own.model.block, own.loss, own.lanes) == ("gru4rec", "sampled", 0)
    assert config_of(settings, ("shop", "gru4rec", "in_batch"), 3.0, 7).batch == 64  # lanes


@pytest.mark.parametrize("block", ["sasrec", "gsasrec", "gru4rec", "hstu", "min_gru"])
def test_gradients_of_rows_are_the_dense_ones(block: str) -> None:
    grads = []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = NextItem(
            NextConfig(block=block, hidden=8, layers=1, length=6, dropout=0.0, sparse=sparse), 40
        )
        items = torch.tensor([[0, 0, 3, 4, 5, 6], [9, 8, 7, 6, 5, 4]])
        features = model(items)[:, -1]
        loss = model.scores(features, torch.tensor([3, 9, 11])).square().sum()
        (loss + model.score_of(features, torch.tensor([7, 8])).sum()).backward()
        grads.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    tables = [name for name, grad in grads[1].items() if grad.is_sparse]
    assert tables
    for name, grad in grads[0].items():
        other = grads[1][name].to_dense() if grads[1][name].is_sparse else grads[1][name]
        torch.testing.assert_close(other, grad)


def test_training_by_rows_learns_and_keeps_unseen_rows(tmp_path: Path) -> None:
    settings = {
        "model": {"block": "min_gru", "hidden": 8, "layers": 1, "sparse": True, "dropout": 0.0},
        "loop": {"epochs": 15, "lr": 0.03}, "batch": 20, "negatives": 8, "validation": 10, "split": "last",
    }  # fmt: skip
    train_next(changed(NextRun(), settings), walks(), tmp_path / "run", quiet=True)
    report = evaluate_next(walks(), tmp_path / "run", split="last")
    assert report["model"]["HR@10"] > report["baselines"]["popularity"]["HR@10"] + 0.1
    with pytest.raises(ConfigError, match="softmax"):
        changed(NextRun(), settings | {"loss": "softmax"})


def test_only_items_with_support_are_learned_and_asked_for() -> None:
    clock = np.array([0.0, 10.0, 20.0])
    lists = [[1, 2, 3], [1, 2, 4], [1, 2, 1], [5, 6, 5]]
    days = [0, 1, 3, 3]
    data = Sequences(
        tuple(np.array(part) for part in lists),
        tuple("abcd"),
        tuple("pqrstu"),
        "days",
        tuple(86_400.0 * day + clock for day in days),
    )
    learned, asked = divided(data, "time", support=2)
    assert [part.tolist() for part in learned.items] == [[1, 2], [1, 2]]
    assert asked.targets.tolist() == [2, 1]
    assert "2 clicks" in asked.target
    with pytest.raises(ConfigError, match="split by time"):
        divided(data, "last", support=2)
    with pytest.raises(ConfigError, match="no item has 9"):
        divided(data, "time", support=9)


def test_a_session_of_one_item_is_learned_from_and_not_asked_for() -> None:
    data = Sequences((np.array([1, 2, 3]), np.array([2])), ("a", "b"), tuple("pqr"), "two")
    learned, asked = divided(data, "last")
    assert [part.tolist() for part in learned.items] == [[1, 2], [2]]
    assert asked.targets.tolist() == [3]
    found = evaluate_next(data, split="last")
    assert found["n"] == 1
