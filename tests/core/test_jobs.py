"""Many inputs, mirrored outputs, failures that do not end the work."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from core.errors import ConfigError, DataError, WorkError
from core.files import write_text
from core.jobs import Job, finish, gather, in_pieces, mirror, run


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """in/a.txt, in/b/c.TXT, in/b/d.txt.gz, and files that are not meant."""
    for name in ("a.txt", "b/c.TXT", "b/d.txt.gz", ".hidden.txt", ".git/e.txt", "f.jpg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(inputs: list[Any]) -> list[str]:
    return [str(item.path) for item in inputs]


def test_folders_globs_lists_and_files_are_inputs_once(tree: Path) -> None:
    assert names(gather(["in"], {".txt"})) == ["in/a.txt", "in/b/c.TXT", "in/b/d.txt.gz"]
    assert names(gather(["in/**/*.TXT", "in/b"], {".txt"})) == ["in/b/c.TXT", "in/b/d.txt.gz"]
    assert names(gather(["-"], {".txt"}, stdin=io.StringIO("in/a.txt\n\nin/f.jpg\n"))) == [
        "in/a.txt",
        "in/f.jpg",
    ]
    assert names(gather(["missing.txt"], {".txt"})) == ["missing.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in/b", "*.nothing"], r"\*\.nothing: no file matches"),
        (["empty"], r"empty: the folder holds no file of a known kind \(\.txt\)"),
        (["-"], "there is no input"),
        ([""], "name of an input is empty"),
    ],
)
def test_nothing_to_work_on_is_one_sentence(tree: Path, words: list[str], message: str) -> None:
    (tree / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        gather(words, {".txt"}, stdin=io.StringIO(""))


def test_outputs_mirror_their_folders(tree: Path) -> None:
    jobs = mirror(gather(["in"], {".txt"}), "out", ".json")
    assert [str(job.target) for job in jobs] == ["out/a.json", "out/b/c.json", "out/b/d.json"]
    globbed = mirror(gather(["in/b/*"], {".txt"}), "out", ".json")
    assert [str(job.target) for job in globbed] == ["out/c.json", "out/d.json"]
    one = gather(["in/a.txt"], {".txt"})
    assert str(mirror(one, "x.json", ".json")[0].target) == "x.json"
    assert str(mirror(one, "x/", ".json")[0].target) == "x/a.json"
    assert mirror(one, None)[0].target is None


def test_outputs_that_collide_are_refused(tree: Path) -> None:
    (tree / "in/b/c.txt").write_text("")
    with pytest.raises(ConfigError, match=r"out/b/c\.json: the output of both in/b/c\.TXT and in/b/c\.txt"):
        mirror(gather(["in"], {".txt"}), "out", ".json")
    with pytest.raises(ConfigError, match="would replace its input"):
        mirror(gather(["in/a.txt"], {".txt"}), "in/a.txt")
    with pytest.raises(ConfigError, match="need a folder"):
        mirror(gather(["in"], {".txt"}), "in/a.txt")


def test_a_failure_is_kept_and_the_rest_goes_on(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work(job: Job) -> int:
        if job.source.path.name == "c.TXT":
            raise DataError("line 3 is empty.")
        assert job.target is not None
        write_text(job.target, "x")
        return 1

    jobs = mirror(gather(["in"], {".txt"}), "out", ".json")
    done = run(jobs, work)
    assert [job.source.path.name for job, _ in done.results] == ["a.txt", "d.txt.gz"]
    with pytest.raises(typer.Exit) as stop:
        finish(done)
    assert stop.value.exit_code == 2
    assert "failed: in/b/c.TXT: line 3 is empty." in capsys.readouterr().err
    again = run(jobs, lambda job: 1 / 0 if job.source.path.name != "c.TXT" else 1)
    assert [job.source.path.name for job in again.skipped] == ["a.txt", "d.txt.gz"]
    os.utime("in/a.txt", ns=(2**62, 2**62))
    assert [job.source.path.name for job in run(jobs, lambda job: 1).skipped] == ["d.txt.gz"]
    assert len(run(jobs, lambda job: 1, again=True).results) == 3


def test_one_input_that_fails_is_its_own_error(tree: Path) -> None:
    def work(job: Job) -> None:
        raise WorkError("it diverged.")

    done = run(mirror(gather(["in/a.txt"], {".txt"}), None), work)
    with pytest.raises(WorkError, match="it diverged"):
        finish(done)


def test_pieces_hold_so_many_numbers() -> None:
    batch = np.arange(30).reshape(10, 3)
    assert [len(piece) for piece in in_pieces(batch, 12)] == [4, 4, 2]
    assert [len(piece) for piece in in_pieces(batch, 1)] == [1] * 10
    np.testing.assert_array_equal(np.concatenate(list(in_pieces(batch, 7))), batch)
    assert list(in_pieces([5, 1, 1, 9, 2], 7, size=lambda n: n)) == [[5, 1, 1], [9], [2]]
    assert list(in_pieces([], 7)) == []
