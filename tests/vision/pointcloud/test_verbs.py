"""What every command offers, and what the ones that write many files do."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vision.pointcloud.cli import app
from vision.pointcloud.data import read_cloud
from vision.pointcloud.evaluation import sensors_report
from vision.pointcloud.examples import generated

VERBS = {
    "detect": ("--weights", "--device", "--threads", "--seed", "--json"),
    "simulate": ("--threads", "--seed", "--json"),
    "train": ("--start", "--device", "--threads", "--seed", "--json"),
    "evaluate": ("--weights", "--device", "--threads", "--seed", "--json"),
    "info": ("--threads", "--json"),
    "convert": ("--threads", "--json"),
    "export": ("--weights", "--threads", "--json"),
    "operators": ("--start", "--device", "--threads", "--seed", "--json"),
    "calibrate": ("--device", "--threads", "--seed", "--json"),
    "score": ("--json",),
}


def run(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_its_options_and_ends_with_an_example(verb: str) -> None:
    said = run(verb, "--help")[1]
    assert set(VERBS[verb]) <= set(re.findall(r"--[a-z-]+", said))
    assert f"Example: recurra pointcloud {verb} " in " ".join(said.split())


def test_every_verb_is_in_the_table() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}  # pyright: ignore
    assert names == set(VERBS)


def test_many_clouds_are_converted_and_mirror_their_tree(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "day/b"):
        path = tmp_path / "in" / f"{name}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng.uniform(-20, 20, (50, 4)).astype("<f4").tofile(path)
    (tmp_path / "in" / "c.pcd").write_text("no cloud")
    for beside in ("a.label.txt", "a.calib.txt", "a.labels.csv"):
        (tmp_path / "in" / beside).write_text("no scan either, and nobody asks")
    words = ("convert", tmp_path / "in", "-o", tmp_path / "out")
    code, out, said = run(*words, "--as", "ply", "--json", "-")
    assert code == 2
    assert "c.pcd" in said
    assert "nobody" not in said
    assert "a.label" not in said
    assert [one["points"] for one in json.loads(out)["files"]] == [50, 50]
    for name in ("a", "day/b"):
        ours, theirs = (read_cloud(tmp_path / part) for part in (f"out/{name}.ply", f"in/{name}.bin"))
        np.testing.assert_array_equal(ours.points, theirs.points)
    with pytest.raises(Exception, match="--as is a layout of clouds"):
        run(*words, "--as", "docx")
    with pytest.raises(Exception, match="many clouds want --as"):
        run(*words)


def test_simulate_reports_what_it_wrote(tmp_path: Path) -> None:
    words = ("simulate", "-o", tmp_path / "s", "--scans", 1, "--sensor", "vlp16", "--seed", 2, "--json", "-")
    assert json.loads(run(*words)[1]) == {"folder": str(tmp_path / "s"), "scans": 1, "report": []}


def test_another_seed_scores_other_scans() -> None:
    ours, same, other = (next(iter(generated(1, "vlp16", False, first))) for first in (0, 0, 10_000))
    assert np.array_equal(ours.cloud.points, same.cloud.points)
    assert not np.array_equal(ours.cloud.points, other.cloud.points)
    asked: list[str] = []

    class Detector:
        def __call__(self, cloud, **_):  # noqa: ANN001, ANN003, ANN204
            asked.append(f"{len(cloud)}")
            raise StopIteration

    with pytest.raises(StopIteration):
        sensors_report(1, Detector(), ["vlp16"], False, 10_000)  # pyright: ignore[reportArgumentType]
    assert asked == [f"{len(other.cloud)}"]
