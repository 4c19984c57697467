"""What a file is before and after it is written, whatever stands at its place."""

import gzip
import os
import stat
import threading
from pathlib import Path

import pytest

from core.errors import DataError, RecurraError
from core.files import check_place, read_bytes, whole_file, write_text


def test_a_file_is_replaced_whole_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    path.chmod(0o640)
    write_text(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def half() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_link_stays_and_the_file_behind_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "latest.json"
    for there in (True, False):
        behind = tmp_path / "far" / f"{there}.json"
        if there:
            behind.write_text("old")
        link.unlink(missing_ok=True)
        link.symlink_to(behind)
        write_text(link, "new")
        assert link.is_symlink()
        assert behind.read_text() == "new"
    assert sorted(os.listdir(tmp_path / "far")) == ["False.json", "True.json"]


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_text(pipe, "through")
    reader.join(timeout=200)
    assert got == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_strangers_links_at_the_temporary_names_are_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    for name in ("out.json.tmp", ".out.json.tmp"):
        (tmp_path / name).symlink_to(precious)
    write_text(tmp_path / "out.json", "new")
    assert precious.read_text() == "precious"
    assert (tmp_path / "out.json").read_text() == "new"
    assert (tmp_path / ".out.json.tmp").is_symlink()


def test_what_a_killed_process_left_is_cleared_and_a_living_one_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    (tmp_path / ".a.json.tmp").write_text("left by a kill")
    write_text(path, "1")
    assert os.listdir(tmp_path) == ["a.json"]
    with whole_file(path) as first:
        first.write_text("first")
        write_text(path, "second")
        assert first.read_text() == "first"
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "is empty"), (".", "is empty"), ("no/such/x.json", "No such file"), ("folder", "it is a folder")],
)
def test_a_place_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for act in (lambda: write_text(name, "x"), lambda: check_place(name)):
        with pytest.raises(RecurraError, match=message):
            act()
    assert os.listdir(tmp_path) == ["folder"]
    check_place("new.json")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_long_name_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), "y")
    assert [len(name) for name in os.listdir(tmp_path)] == [255]


def test_reading_unpacks_and_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 1000)
    assert read_bytes(path, 1000) == b"x" * 1000
    with pytest.raises(DataError, match=r"a\.txt: 1 KB; the limit is 999 bytes"):
        read_bytes(path, 999)
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(b"#\n" * 1_000_000))
    assert len(read_bytes(packed, 2_000_000)) == 2_000_000
    with pytest.raises(DataError, match="unpack to more than 100 KB"):
        read_bytes(packed, 100_000)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(DataError, match="cut short or damaged"):
        read_bytes(packed, 2_000_000)
    with pytest.raises(DataError, match="cannot be read"):
        read_bytes(tmp_path / "none", 10)
