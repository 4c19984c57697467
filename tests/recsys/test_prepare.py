"""Every kind of log becomes one folder that the other commands read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.errors import ConfigError, DataError
from recsys.data import read_slates
from recsys.formats import as_slots, kind_of, seconds_of, words
from recsys.prepare import prepare
from recsys.sequences.data import read_sequences
from recsys.slates import FIRST


def test_rows_of_slates_are_read_as_rows_of_slots(tmp_path: Path) -> None:
    slates = pd.DataFrame(
        {
            "uid": ["a", "a", "b"],
            "ts": ["2024-01-01T00:00:00", "2024-01-01T00:01:00", "2024-01-02T00:00:00"],
            "items": ["5|7|9", "[7, 11]", "9 5"],
            "click": [7, None, "5"],
        }
    )
    slates.to_csv(tmp_path / "slates.csv", index=False)
    report = prepare([tmp_path / "slates.csv"], tmp_path / "out", columns={"user": "uid", "time": "ts"})
    found = read_slates(tmp_path / "out")
    assert (report["users"], report["steps"], report["items"], report["times"]) == (2, 3, 4, True)
    assert found.catalogue.names is not None
    row = [found.catalogue.name(int(item)) for item in found.slate[0, 0, 1:4]]
    assert row == ["5", "7", "9"]
    assert found.click_idx.tolist() == [[2, 0], [2, 0]]
    assert found.time is not None
    assert found.time[0, 1] - found.time[0, 0] == 60
    users = (tmp_path / "out" / "users.csv").read_text().splitlines()
    assert users == ["row,user", "0,a", "1,b"]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["splits"]["users"]["train"] == 2


def test_open_bandit_rows_keep_their_propensities(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "timestamp": ["2019-11-24 00:03:13.4+00:00"] * 2 + ["2019-11-24 00:03:14+00:00"],
            "item_id": [3, 5, 3],
            "position": [1, 2, 1],
            "click": [0, 1, 0],
            "propensity_score": [0.1, 0.2, 0.3],
            "user_feature_0": ["x", "x", "y"],
            "user_feature_1": ["p", "p", "q"],
        }
    )
    frame.to_csv(tmp_path / "obd.csv", index=False)
    report = prepare([tmp_path / "obd.csv"], tmp_path / "out")
    found = read_slates(tmp_path / "out")
    assert report["propensities"]
    assert "cannot be found again" in report["remarks"][0]
    assert found.propensity is not None
    assert found.propensity[..., 1][np.asarray(found.lengths) > 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert int((np.asarray(found.click) >= FIRST).sum()) == 1


def test_sequences_become_one_table(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("u 10 9 10\nv 11 9\n")
    pd.DataFrame({"session": ["w", "w"], "item": [9, 12], "time": [5.0, 1.0]}).to_csv(
        tmp_path / "b.csv", index=False
    )
    report = prepare([tmp_path / "a.txt"], tmp_path / "one")
    assert (report["users"], report["steps"], report["items"]) == (2, 5, 3)
    data = read_sequences(tmp_path / "one")
    assert [part.tolist() for part in data.items] == [[2, 1, 2], [3, 1]]
    prepare([tmp_path / "b.csv"], tmp_path / "two")
    table = read_sequences(tmp_path / "two")
    assert table.times is not None
    assert [table.names[item - 1] for item in table.items[0]] == ["12", "9"]
    with pytest.raises(ConfigError, match="already"):
        prepare([tmp_path / "b.csv"], tmp_path / "two")


def test_a_folder_partitioned_by_user_is_one_log(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "user": ["a", "a", "b", "b"],
            "time": [1, 1, 1, 1],
            "slot": [1, 2, 1, 2],
            "item": ["x", "y", "y", "z"],
            "click": [0, 1, 0, 0],
            "part": [0, 0, 1, 1],
        }
    )
    frame.to_parquet(tmp_path / "log", partition_cols=["part"])
    assert prepare([tmp_path / "log"], tmp_path / "out")["users"] == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": [None, "5 7"]}, "row 1: 'items' is not a list"),
        ({"items": ["5 5", "5 7"]}, "row 1: an item stands twice"),
        ({"click": [8, 5]}, "row 1: the click '8' is not in the slate"),
    ],
)
def test_a_wrong_row_of_slates_is_named(change: dict[str, list[object]], message: str) -> None:
    good = {"user": ["a", "b"], "time": [1, 2], "items": ["5 7", "5 7"], "click": [5, None]}
    with pytest.raises(DataError, match=message):
        as_slots(pd.DataFrame(good | change), "log")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,1,one,5,0", "row 1: slot is not a whole number"),
        ("a,1,1,5,maybe", "row 1: click is neither"),
        ("a,1,1,-5,0", "row 1: item is negative"),
        ("a,1,1,5.5,0", "row 1: item is not a whole number"),
        ("a,,1,5,0", "row 1: time is empty"),
        (",1,1,5,0", "row 1: user is empty"),
        ("a,1,1,5,0,9", "not a readable table"),
        ("a,1,1,5,0\na,1,2,5,0", "stands twice"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "log.csv").write_text(f"user,time,slot,item,click\n{rows}\nb,1,1,6,0\n")
    with pytest.raises(DataError, match=message):
        prepare([tmp_path / "log.csv"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


SECONDS = 1_574_553_793.0  # 2019-11-24 00:03:13 UTC


@pytest.mark.parametrize(
    "times",
    [
        [SECONDS, SECONDS + 60],
        [1_574_553_793_000, 1_574_553_853_000],
        [1_574_553_793_000_000_000, 1_574_553_853_000_000_000],
        ["1574553793", "1574553853"],
        ["2019-11-24T00:03:13Z", "2019-11-24T01:04:13+01:00"],
        ["2019-11-24 00:03:13.000+00:00", "2019-11-24 00:04:13"],
        ["24.11.2019 00:03:13", "24.11.2019 00:04:13"],
        ["11/24/2019 12:03:13 AM", "11/24/2019 12:04:13 AM"],
        ["Sun, 24 Nov 2019 00:03:13 GMT", "Sun, 24 Nov 2019 00:04:13 GMT"],
        pd.to_datetime([SECONDS, SECONDS + 60], unit="s").tolist(),
        pd.to_datetime([SECONDS, SECONDS + 60], unit="s", utc=True).tz_convert("Asia/Tokyo").tolist(),
    ],
    ids=lambda times: str(times[0]),
)
def test_times_are_seconds_however_they_are_written(times: list[Any]) -> None:
    assert seconds_of(pd.Series(times, name="time"), "log").tolist() == [SECONDS, SECONDS + 60]


def test_a_day_above_twelve_says_which_number_is_the_day() -> None:
    days = pd.Series(["05/11/2019", "24/11/2019"])
    assert np.diff(seconds_of(days, "log", "time")).tolist() == [19 * 86_400.0]
    assert np.diff(seconds_of(days[:1], "log", "time", "%d/%m/%Y"), prepend=SECONDS - 193).tolist() == [
        -19 * 86_400.0
    ]
    assert np.diff(seconds_of(pd.Series(["11/05/2019", "11/24/2019"]), "log", "time")).tolist() == [
        19 * 86_400.0
    ]


def test_small_numbers_count_from_anywhere_and_a_unit_may_be_said() -> None:
    counts = pd.Series([3, 1, 2_000_000])
    assert seconds_of(counts, "log", "time").tolist() == [3.0, 1.0, 2e6]
    assert seconds_of(counts, "log", "time", "ms").tolist() == [0.003, 0.001, 2e3]


@pytest.mark.parametrize(
    ("times", "written", "message"),
    [
        (["step one", "step two"], None, r"log row 1: time 'step one' is not a number or a date \(2 such"),
        (["t1", "t2"], None, r"log row 1: time 't1' is not"),
        (["2019-11-24", "now"], None, r"log row 2: time 'now' is not"),
        (["7", "8", "soon"], None, r"log row 3: time 'soon' is not a number or a date \(1 such rows\)\."),
        (["2019-11-24", "2019-11-31"], None, r"row 2: time '2019-11-31' is not .*prepare --time-format"),
        (["24.11.2019", "24/11/2019"], "%d.%m.%Y", r"row 2: time '24/11/2019' is not written as %d\.%m\.%Y"),
        (["1", "x"], "ms", r"row 2: time 'x' is not written as ms"),
        ([1.0, None], None, r"row 2: time is empty \(1 such rows\)"),
    ],
)
def test_what_is_no_time_is_named_with_the_way_out(times: list[Any], written: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        seconds_of(pd.Series(times, name="time"), "log", written=written)


def test_slates_are_in_the_order_of_their_dates_and_a_format_may_be_said(tmp_path: Path) -> None:
    rows = "a,1_2_2020,1,5,1\na,31_1_2020,1,6,1\nb,1_2_2020,1,6,0\n"
    (tmp_path / "log.csv").write_text(f"user,ts,slot,item,click\n{rows}")
    to_time = {"time": "ts"}
    with pytest.raises(DataError, match=r"log.csv row 1: time '1_2_2020' is not .*--time-format"):
        prepare([tmp_path / "log.csv"], tmp_path / "out", columns=to_time)
    assert not (tmp_path / "out").exists()
    prepare([tmp_path / "log.csv"], tmp_path / "out", columns=to_time, time_format="%d_%m_%Y")
    found = read_slates(tmp_path / "out")
    names = [found.catalogue.name(int(item)) for item in np.asarray(found.click)[0]]
    assert names == ["6", "5"]
    assert found.time is not None
    assert found.time[0].tolist() == [1_580_428_800.0, 1_580_515_200.0]
    with pytest.raises(DataError, match="no column of times"):
        prepare([tmp_path / "log.csv"], tmp_path / "x", time_format="s")


def test_kinds_are_told_by_their_columns() -> None:
    assert kind_of(pd.DataFrame(columns=["user", "time", "slot", "item", "click"])) == "slots"
    assert kind_of(pd.DataFrame(columns=["user", "time", "items", "click"])) == "slates"
    assert kind_of(pd.DataFrame(columns=["item_id", "click", "propensity_score"])) == "impressions"
    assert kind_of(pd.DataFrame(columns=["SessionId", "ItemId", "Time"])) == "interactions"
    assert words("['a', 'b']") == ["a", "b"]
    assert words(np.array([1, 2])) == ["1", "2"]
    assert words(7.0) == ["7"]


def test_a_log_in_pieces_is_the_log_as_a_whole(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frames = []
    for part in range(3):
        rows = [
            (f"u{part}{user}", time, slot, f"i{item}", int(slot == 2), f"g{item % 3}")
            for user in range(4)
            for time in range(part + 1)
            for slot, item in enumerate(random.choice(20, 3 + part, replace=False), 1)
        ]
        frame = pd.DataFrame(rows, columns=["user", "time", "slot", "item", "click", "group"])
        frame.to_parquet(tmp_path / f"part-{part}.parquet")
        frames.append(frame)
    (tmp_path / "log").mkdir()
    for part in range(3):
        (tmp_path / f"part-{part}.parquet").rename(tmp_path / "log" / f"part-{part}.parquet")
    report = prepare([tmp_path / "log"], tmp_path / "pieces", pieces=True)
    pd.concat(frames).to_parquet(tmp_path / "whole.parquet")
    whole = prepare([tmp_path / "whole.parquet"], tmp_path / "whole")
    assert (report["users"], report["steps"], report["items"]) == (
        whole["users"],
        whole["steps"],
        whole["items"],
    )
    one, two = read_slates(tmp_path / "pieces"), read_slates(tmp_path / "whole")
    assert one.users.tolist() == two.users.tolist()

    def named(slates: Any) -> list[list[str]]:
        return [
            [str(slates.catalogue.name(int(item))) for item in row] for row in slates.slate.reshape(12, -1)
        ]

    assert named(one) == named(two)
    np.testing.assert_array_equal(one.time, two.time)
    assert not list((tmp_path / "pieces").glob(".pieces*"))
    frames[0].to_parquet(tmp_path / "log" / "part-9.parquet")
    with pytest.raises(DataError, match="partition the log by user"):
        prepare([tmp_path / "log"], tmp_path / "other", pieces=True)
