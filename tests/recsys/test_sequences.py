"""Next-item models: readers, every block in the shell, stepping, ranking beside the baselines."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core.config import replace as changed
from core.errors import ConfigError, DataError
from recsys.config import NextConfig, NextRun
from recsys.sequences.data import Sequences, left_padded, read_sequences
from recsys.sequences.model import BLOCKS, Mixer, NextItem
from recsys.sequences.train import evaluate_next, ranks_of, train_next


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
        },
    )
    train_next(config, walks(), tmp_path / "run", quiet=True)
    report = evaluate_next(walks(), tmp_path / "run")
    assert report["n"] == 80
    assert report["model"]["HR@10"] > report["baselines"]["popularity"]["HR@10"] + 0.1
    assert report["baselines"]["transitions"]["HR@10"] > report["baselines"]["popularity"]["HR@10"]
    with pytest.raises(ConfigError, match="no block"):
        NextItem(NextConfig(block="boat"), 5)


def test_what_was_seen_is_removed_but_never_the_target() -> None:
    scores = np.array([[9.0, 5.0, 4.0, 3.0, 2.0]])
    assert ranks_of(scores, [np.array([1, 2])], np.array([3])).tolist() == [1]
    assert ranks_of(scores, [np.array([1, 3])], np.array([3])).tolist() == [2]
