"""Index tables and the errors that name a place in them."""

from pathlib import Path

import pytest

from core.errors import ConfigError, DataError
from core.tables import read_index, write_table


def index(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "index.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_cells_are_paths_beside_the_table_texts_and_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("")
    path = index(tmp_path, '\ufeffwav;text;gain;split\na.wav;"one; two";1.5;train\n\nb.wav;x;;test\n')
    first, second = read_index(path, ["wav", "text"])
    assert first.file("wav") == tmp_path / "a.wav"
    assert first.text("text") == "one; two"
    assert first.number("gain") == 1.5
    assert second.number("gain", 0.0) == 0.0
    assert second.line == 4
    assert [row.text("wav") for row in read_index(path, ["wav"], split="test")] == ["b.wav"]
    with pytest.raises(DataError, match=r"index\.csv line 4, column wav: no file .*b\.wav"):
        second.file("wav")
    with pytest.raises(DataError, match=r"line 4, column gain: empty"):
        second.number("gain")
    with pytest.raises(ConfigError, match="no row of the split 'dev'; there is test, train"):
        read_index(path, ["wav"], split="dev")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wav\n", "a header without rows"),
        ("", "no column 'wav'; an index needs wav, this one has no header"),
        ("path,text\na,b\n", "no column 'wav'; an index needs wav, this one has path, text"),
        ("wav,wav\na,b\n", "two columns are called 'wav'"),
        ("wav,text\na\n", "line 2: 1 cells, the header has 2"),
        ('wav\n"a\n', "not CSV"),
    ],
)
def test_what_is_no_index_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_index(index(tmp_path, text), ["wav"])


def test_numbers_that_are_none_are_named(tmp_path: Path) -> None:
    (row,) = read_index(index(tmp_path, "a,b,c\nx,nan,1.5\n"), ["a"])
    with pytest.raises(DataError, match="column a: expected a finite number, got 'x'"):
        row.number("a")
    with pytest.raises(DataError, match="column b: expected a finite number, got 'nan'"):
        row.number("b")
    with pytest.raises(DataError, match=r"column c: expected a whole number, got '1\.5'"):
        row.whole("c")


def test_binary_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not text in UTF-8"):
        read_index(tmp_path / "x.csv", ["a"])
    with pytest.raises(DataError, match="cannot be read"):
        read_index(tmp_path / "none.csv", ["a"])


def test_written_tables_are_read_back_and_hold_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write_table(path, ["name", "x"], [["=1+1", -1.5], ["-2", None], ["a,b", float("nan")]])
    assert path.read_text() == 'name,x\n\'=1+1,-1.5\n-2,\n"a,b",\n'
    assert [row.text("name") for row in read_index(path, ["name"])] == ["=1+1", "-2", "a,b"]
