"""Resampling, windows, files of a folder, and splits by flight."""

from pathlib import Path

import numpy as np
import pytest

from apps.trajectory.data import (
    Segment,
    Track,
    flights,
    inputs,
    read_many,
    resample,
    resample_many,
    split_by_flight,
    windows,
)
from core.errors import DataError


def track(times: list[float] | np.ndarray, name: str = "a", source: str = "a.csv") -> Track:
    t = np.asarray(times, dtype=np.float64)
    return Track(name, source, t, 0, np.stack([t, 2 * t, -t], 1))


def test_an_even_track_is_left_as_it_is() -> None:
    whole = track(0.1 * np.arange(200))
    (segment,) = resample(whole)
    assert len(segment) == 200
    np.testing.assert_allclose(segment.positions, whole.positions, atol=1e-12)


def test_a_gap_cuts_and_each_piece_starts_at_its_own_sample() -> None:
    pieces = resample(track([0, 0.25, 0.5, 1.05, 1.3]))
    assert [(piece.t0, len(piece)) for piece in pieces] == [(0.0, 6), (1.05, 3)]
    np.testing.assert_allclose(pieces[0].positions[:, 0], 0.1 * np.arange(6), atol=1e-12)


def test_a_step_of_exactly_the_largest_gap_does_not_cut() -> None:
    assert len(resample(track([0, 0.5, 1.0]))) == 1


def test_disorder_and_repeats_are_settled_by_the_last_row() -> None:
    messy = Track("a", "a", np.array([0.2, 0.0, 0.1, 0.1]), 0, np.array([[2.0], [0.0], [9.0], [1.0]]))
    np.testing.assert_allclose(resample(messy)[0].positions[:, 0], [0, 1, 2])


def test_windows_count_from_the_start_of_every_segment() -> None:
    segments = resample_many([track(0.1 * np.arange(60)), track(0.1 * np.arange(41), "b")])
    found = windows(segments, history=21, horizon=20, stride=5)
    assert found.past.shape == (5, 21, 3)
    assert found.future.shape == (5, 20, 3)
    assert found.segment.tolist() == [0, 0, 0, 0, 1]
    assert found.start.tolist() == [0, 5, 10, 15, 0]
    np.testing.assert_allclose(found.past[1, :, 0], 0.5 + 0.1 * np.arange(21))
    np.testing.assert_allclose(found.future[1, :, 0], 2.6 + 0.1 * np.arange(20))


def test_a_segment_too_short_is_reported() -> None:
    found = windows(resample(track([*0.1 * np.arange(60), *(20 + 0.1 * np.arange(4))])), 21, 20, 5)
    assert len(found) == 4
    assert found.warnings == (
        "a: 1 segment shorter than the 41 samples of a window, 1 of them without even a history.",
    )


def test_tracks_that_do_not_fit_together_are_refused() -> None:
    flat = Segment(track([0, 0.1]), 0.0, 0.1, np.zeros((50, 2)))
    with pytest.raises(DataError, match=r"2 axes every 0\.1 s and 3 axes every 0\.1 s"):
        windows([flat, *resample(track(0.1 * np.arange(50)))])


def test_no_segment_gives_no_window() -> None:
    assert windows([], 21, 20).past.shape == (0, 21, 3)


def recordings() -> list[Track]:
    """Eight physical flights, each recorded by two cameras, and forty tracks in one file."""
    found = []
    for number in range(8):
        for sensor in ("davis", "snapdragon"):
            name = f"indoor_forward_{number}_{sensor}"
            found.append(track([0, 1, 2], name, f"uzh/{name}.csv.gz"))
    found += [track([0, 1, 2], f"shapes/circle/{number}", "random/shapes.csv.gz") for number in range(40)]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_no_flight_is_on_two_sides(seed: int) -> None:
    tracks = recordings()
    parts = split_by_flight(tracks, seed, (0.6, 0.2, 0.2))
    sides = [set(flights(part)) for part in parts]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert sum(len(part) for part in parts) == len(tracks)
    assert all(parts)
    by_number = [
        {name.rsplit("_", 1)[0] for name in (t.name for t in part) if "indoor" in name} for part in parts
    ]
    assert not by_number[0] & by_number[1]
    assert not by_number[0] & by_number[2]


def test_two_sensors_of_one_flight_are_one_flight() -> None:
    found = flights(recordings())
    assert len(found) == 48
    assert sorted(len(rows) for rows in found.values())[-8:] == [2] * 8


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("a/f_1_davis.csv", "a/f_1_snapdragon.csv", True),
        ("a/f_1_davis_with_gt.txt", "a/f_1_snapdragon_with_gt.txt", True),
        ("davis/f_1.csv", "snapdragon/f_1.csv", True),
        ("a/C1.csv", "a/C1.csv.gz", True),
        ("a/../a/C1.csv", "a/C1.csv", True),
        ("a/f_1_davis.csv", "a/f_2_davis.csv", False),
        ("one/log.csv", "two/log.csv", False),
    ],
)
def test_the_flight_follows_from_the_path(left: str, right: str, same: bool) -> None:
    names = [Path(path).name.split(".")[0] for path in (left, right)]
    tracks = [track([0, 1], name, path) for name, path in zip(names, (left, right), strict=True)]
    assert (tracks[0].flight == tracks[1].flight) is same


def test_a_split_is_repeatable_and_follows_its_fractions() -> None:
    tracks = [track(0.1 * np.arange(10), f"t/{number}", "t.csv") for number in range(100)]
    parts = split_by_flight(tracks, 3, (0.8, 0.1, 0.1))
    assert [len(part) for part in parts] == [80, 10, 10]
    assert [[t.name for t in part] for part in split_by_flight(tracks, 3, (0.8, 0.1, 0.1))] == [
        [t.name for t in part] for part in parts
    ]
    assert [t.name for t in split_by_flight(tracks, 4)[0]] != [t.name for t in parts[0]]


def test_few_flights_still_reach_every_part() -> None:
    tracks = [
        track(np.arange(1000.0), "long/1", "l.csv"),
        track([0, 1], "x/1", "x.csv"),
        track([0, 1], "y/1", "y.csv"),
    ]
    assert [len(part) for part in split_by_flight(tracks, 0, (0.8, 0.1, 0.1))] == [1, 1, 1]


def test_folders_and_globs_stand_for_their_files(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.csv", "inner/a.csv", "00_times.txt", ".hidden.csv", "notes.md"):
        (tmp_path / name).write_text("t,x,y,z\n0,1,2,3\n0.1,1,2,3\n")
    assert [item.path.name for item in inputs([tmp_path])] == ["b.csv", "a.csv"]
    assert [item.path.name for item in inputs([f"{tmp_path}/**/*.csv"])] == ["b.csv", "a.csv"]
    assert [found.name for found in read_many([tmp_path / "b.csv", f"{tmp_path}/inner/*"])] == ["b", "a"]
    with pytest.raises(DataError, match="no file matches"):
        inputs([f"{tmp_path}/*.ulg"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file of a known kind"):
        inputs([tmp_path / "empty"])
