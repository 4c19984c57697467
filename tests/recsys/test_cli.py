"""The commands as a person uses them, in this process."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from recsys.cli import app
from tests.recsys.market import written

RUN = CliRunner()


def run(*words: object) -> Result:
    return RUN.invoke(app, [str(word) for word in words], catch_exceptions=True)


def test_evaluate_prints_all_baselines_and_writes_json(tmp_path: Path) -> None:
    from recsys.simulator import World, simulate_log, write_log

    write_log(simulate_log(World(), 30, seed=77), tmp_path / "market")
    done = run(
        "evaluate", tmp_path / "market", "--weights", "recsys-simulated", "--json", tmp_path / "r.json"
    )
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["n"] == 30
    assert {"uniform", "popularity", "last_group", "item_ctr_slot"} <= set(report["baselines"])
    assert report["protocol"]["weights"] == "recsys-simulated"


def test_recommend_explains_and_similar_finds(tmp_path: Path) -> None:
    (tmp_path / "h.json").write_text("[5, 17, 90]")
    (tmp_path / "deny.txt").write_text("5\n17\n")
    words = ("--history", tmp_path / "h.json", "--policy", "inslate", "--k", 5, "--explain")
    kept = ("--log", tmp_path / "shown.parquet")
    done = run("recommend", *words, *kept, "--deny", tmp_path / "deny.txt", "--json", "-")
    assert done.exit_code == 0, done.output
    slate = json.loads(done.output)["slates"][0]
    assert len(slate["items"]) == 5
    assert not {5, 17} & set(slate["items"])
    shown = pd.read_parquet(tmp_path / "shown.parquet")
    assert shown["item"].tolist() == [str(item) for item in slate["items"]]
    assert set(shown["policy"]) == {"inslate"}
    assert {"mean", "spread", "group", "draw"} <= set(slate["why"][0])
    assert run("similar", 90, "--k", 3).exit_code == 0


def test_simulate_writes_a_log_that_is_read_back(tmp_path: Path) -> None:
    done = run("simulate", "-o", tmp_path / "m", "--users", 20, "--set", "items=900", "--set", "groups=6")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "m" / "truth.npz").exists()
    short = ("--seeds", 2, "--rounds", 4, "--policies", "inslate", "--temperatures", 0.3)
    done = run("simulate", "compare", *short, "--positions", "known", "--worlds", "dense", "--horizons", "2",
               "--quiet", "--json", "-")  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = next(iter(json.loads(done.output)["worlds"].values()))["policies"]
    assert list(rows["inslate 0.3"]["at"]) == ["2"]


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "missing.npz"),
        ("evaluate", "{log}", "--kind", "ad"),
        ("recommend", "--history", "missing.json"),
        ("recommend", "--history", "{junk}"),
        ("similar", "boat"),
        ("simulate",),
        ("simulate", "-o", "x", "--set", "choice=dice"),
        ("simulate", "compare", "--temperatures", "hot"),
        ("train", "--model", "best"),
        ("train", "--model", "filter"),
        ("protocol", "{log}", "--folds", "9"),
        ("ope", "{log}"),
        ("ope", "{log}", "--slates"),
        ("simulate", "compare", "--horizons", "far"),
        ("refresh", "{log}", "--forgetting", "2"),
        ("replay", "{log}"),
        ("publish", "missing"),
        ("contest", "{junk}", "--losses", "hinge"),
        ("train", "next", "{log}", "--set", "loss=softmax", "--set", "model.sparse=true"),
        ("train", "{log}", "--split", "sideways"),
        ("prepare", "missing.csv", "-o", "x"),
    ],
)
def test_bad_words_and_files_end_in_one_sentence(tmp_path: Path, words: tuple[str, ...]) -> None:
    from core.errors import RecurraError

    (tmp_path / "junk.json").write_text("{]")
    names = {"{log}": str(written(tmp_path / "log") / "data.npz"), "{junk}": str(tmp_path / "junk.json")}
    done = run(*(names.get(word, word) for word in words))
    assert done.exit_code != 0
    assert isinstance(done.exception, RecurraError), done.output
    assert "\n" not in str(done.exception)
