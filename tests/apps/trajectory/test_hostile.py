"""Files of strangers: bombs, odd bytes, repeated names. Refused or read, in little memory, never a crash."""

import gzip
import json
import resource
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from apps.trajectory.data import read_tracks
from apps.trajectory.formats import table
from core.errors import DataError

FLIGHT = [(i / 10, i * 0.5, i * 0.1, 5.0) for i in range(60)]


def written(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return path


def bomb(block: bytes, times: int) -> bytes:
    """Members of gzip one behind the other, which unpack to the block so many times."""
    return gzip.compress(block) * times


def peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


@pytest.mark.parametrize(
    ("name", "block", "times", "words"),
    [
        ("a.csv.gz", b"#\n" * (1 << 19), 400, "more than 200-fold"),
        ("a.jsonl.gz", b"{}\n" * 350_000, 480, "more than 200-fold"),
        ("a.csv.gz", b"#\n" * (1 << 19), 20, "comments and no data"),
        ("a.csv.gz", b" \n" * (1 << 19), 60, "empty"),
        ("a.csv.gz", b"1,2,3,4\n" * (1 << 17), 10, "a single sample"),
        ("a.jsonl.gz", b"{}\n" * 350_000, 60, "more than 10,000,000 rows"),
        ("a.jsonl.gz", b'{"a":1}\n' * 130_000, 3, "no column of time"),
        ("a.jsonl.gz", b"[" + b"{}," * 350_000, 60, "longer than 1 MB"),
    ],
    ids=[
        "comments",
        "samples",
        "fewer comments",
        "blanks",
        "one row for ever",
        "few samples",
        "other",
        "array",
    ],
)
def test_a_small_file_does_not_fill_memory(
    name: str, block: bytes, times: int, words: str, tmp_path: Path
) -> None:
    path = written(tmp_path, name, bomb(block, times))
    before = peak_mb()
    with pytest.raises(DataError, match=words):
        read_tracks(path)
    assert peak_mb() - before < 500


def parquet(folder: Path, **columns: object) -> Path:
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    cells = np.array(FLIGHT).T
    path = folder / "a.parquet"
    writer.write_table(arrow.table({**dict(zip("txyz", cells, strict=True)), **columns}), path)
    return path


def test_repeated_text_of_a_column_nobody_needs_is_not_unpacked(tmp_path: Path) -> None:
    import pyarrow as arrow

    text = arrow.DictionaryArray.from_arrays(arrow.array([0] * 60, "int32"), arrow.array(["a" * (1 << 20)]))
    (track,) = read_tracks(parquet(tmp_path, note=text))
    assert len(track) == 60


def test_repeated_text_of_an_id_is_refused_by_its_size(tmp_path: Path) -> None:
    import pyarrow as arrow

    indices = arrow.array([0] * 60, "int32")
    text = arrow.DictionaryArray.from_arrays(indices, arrow.array(["a" * (2 << 20)]))
    with pytest.raises(DataError, match="texts of up to 2,097,152 characters"):
        read_tracks(parquet(tmp_path, id=text))


def test_bytes_as_an_id_are_text_or_hexadecimal(tmp_path: Path) -> None:
    import pyarrow as arrow

    names = [
        track.name for track in read_tracks(parquet(tmp_path, id=arrow.array([b"\xff\x00", b"ab"] * 30)))
    ]
    assert names == ["a/ff00", "a/ab"]


def test_notes_for_pandas_in_parquet_are_not_believed(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as writer

    frame = arrow.table(dict(zip("txyz", np.array(FLIGHT).T, strict=True)))
    notes = json.dumps({"index_columns": ["nothing", {"kind": "range"}], "columns": 7, "column_indexes": [1]})
    writer.write_table(frame.replace_schema_metadata({"pandas": notes}), tmp_path / "a.parquet")
    (track,) = read_tracks(tmp_path / "a.parquet")
    assert len(track) == 60


def test_an_index_of_pandas_is_a_column(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame(FLIGHT, columns=list("txyz")).set_index("t").to_parquet(tmp_path / "a.parquet")
    (track,) = read_tracks(tmp_path / "a.parquet")
    np.testing.assert_allclose(track.time_s, np.arange(60) / 10, atol=1e-12)


def test_names_that_repeat_never_name_two_columns(tmp_path: Path) -> None:
    assert table.unique(["t", "x", "x", "x.1", "", ""]) == ["t", "x", "x.2", "x.1", "column 4", "column 5"]
    rows = "".join(f"{t},{x},TRUE,{x},{y},{z}\n" for t, x, y, z in FLIGHT)
    (track,) = read_tracks(written(tmp_path, "a.csv", f"t,x,x,x.1,y,z\n{rows}"))
    assert track.positions[59].tolist() == pytest.approx([29.5, 5.9, 5.0])


def test_half_a_character_is_told_by_its_line(tmp_path: Path) -> None:
    text = '{"t": 0.0, "p": [0, 0, 5]}\n{"t": "\\ud800", "p": [0.5, 0, 5]}\n'
    with pytest.raises(DataError, match="line 2: t is a text that is no"):
        read_tracks(written(tmp_path, "a.jsonl", text))


def test_comments_and_blanks_between_rows_do_not_shift_line_numbers(tmp_path: Path) -> None:
    rows = ["t,x,y,z", *(",".join(map(str, row)) for row in FLIGHT)]
    rows[3:3] = ["# a remark", "", "# another", "  "]
    rows[20] = "1.5,oops,1,5"
    with pytest.raises(DataError, match="line 21: x is 'oops'"):
        read_tracks(written(tmp_path, "a.csv", "\n".join(rows)))
    rows[20] = "1,2,3,4,5,6"
    with pytest.raises(DataError, match="saw 6") as error:
        read_tracks(written(tmp_path, "a.csv", "\n".join(rows)))
    assert "in line 21" in str(error.value)


@pytest.mark.parametrize("piece", [7, 40, 1 << 20])
def test_pieces_of_a_table_make_the_same_table(
    piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column of numbers that turns to text keeps its digits, wherever the pieces end."""
    monkeypatch.setattr(table, "PIECE", piece)
    rows = "".join(f"{t},{x},{y},{z},{'00' if t < 3 else 'n'}7\n" for t, x, y, z in FLIGHT)
    path = written(tmp_path, "a.csv.gz", gzip.compress(f"t,x,y,z,ID\n{rows}".encode()))
    assert [(track.name, len(track)) for track in read_tracks(path)] == [("a/007", 30), ("a/n7", 30)]


def test_a_million_tracks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.trajectory.formats import ids

    monkeypatch.setattr(ids, "TRACKS", 10)
    rows = "".join(f"{t},{x},{y},{z},{int(x)}\n" for t, x, y, z in FLIGHT)
    with pytest.raises(DataError, match="more than 10 tracks by id"):
        read_tracks(written(tmp_path, "a.csv", f"t,x,y,z,id\n{rows}"))


def test_times_of_parquet_are_read_as_far_as_dates_reach(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    count = len(FLIGHT)
    elapsed = arrow.array(range(0, 100 * count, 100), arrow.int64()).cast(arrow.duration("ms"))
    (track,) = read_tracks(parquet(tmp_path, t=elapsed))
    assert track.time_s[1] == pytest.approx(0.1)
    for stamp in (2**62, -(2**62)):
        late = arrow.array([stamp] * count, arrow.int64()).cast(arrow.timestamp("ms", "UTC"))
        with pytest.raises(DataError, match="outside the years 1 to 9999"):
            read_tracks(parquet(tmp_path, t=late))
