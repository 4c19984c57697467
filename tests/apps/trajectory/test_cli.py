"""The trajectory commands as a person uses them, in one process."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.trajectory.cli import app
from core.cli import run_app


class Terminal:
    """Runs commands and keeps what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *words: object, stdin: str | None = None) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["recurra", *map(str, words)])
        if stdin is not None:
            source = io.TextIOWrapper(io.BytesIO(stdin.encode()))
            self.monkeypatch.setattr(sys, "stdin", source)
        code = 0
        try:
            run_app(app)
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = self.capsys.readouterr()
        return code, out, err


@pytest.fixture
def recurra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(capsys, monkeypatch)


def write_flight(path: Path, samples: int = 80, speed: float = 3.0) -> Path:
    rows = [f"{k / 10:.1f},{speed * k / 10},{0.1 * k},5.0" for k in range(samples)]
    path.write_text("timestamp,tx,ty,tz\n" + "\n".join(rows) + "\n")
    return path


def test_predict_answers_each_track(recurra: Terminal, tmp_path: Path) -> None:
    flight = write_flight(tmp_path / "a.csv")
    code, out, _ = recurra("predict", flight, "--json", "-")
    (answer,) = json.loads(out)["predictions"]
    assert code == 0
    assert answer["t"] == pytest.approx(7.9)
    assert len(answer["mean"]) == 20
    # straight flight at 3 m/s: after one second 3 m further, give or take the model
    assert answer["mean"][9] == pytest.approx([23.7 + 3.0, 7.9 + 1.0, 5.0], abs=0.25)
    assert 0 < min(answer["radius"]) <= max(answer["radius"]) < 0.1  # an exact line needs no more


def test_beyond_the_horizon_the_answer_is_null(recurra: Terminal, tmp_path: Path) -> None:
    flight = write_flight(tmp_path / "a.csv")
    _, out, _ = recurra("predict", flight, "--horizon", 3, "--json", "-")
    answer = json.loads(out)["predictions"][0]
    assert len(answer["mean"]) == 30
    assert answer["mean"][20:] == [None] * 10
    assert answer["mean"][19] is not None


def test_an_operator_asks_for_the_closest_approach(recurra: Terminal, tmp_path: Path) -> None:
    flight = write_flight(tmp_path / "a.csv")
    _, out, _ = recurra("predict", flight, "--near", "26.7,8.9,5", "--radius", 2, "--json", "-")
    approach = json.loads(out)["predictions"][0]["approach"]
    assert approach["ahead_s"] == pytest.approx(1.0, abs=0.15)
    assert approach["distance_m"] < 0.3
    assert approach["entry_probability"] > 0.9
    _, out, _ = recurra("predict", flight, "--near", "26.7,500,5", "--radius", 2, "--json", "-")
    assert json.loads(out)["predictions"][0]["approach"]["entry_probability"] == 0.0


def test_a_place_is_asked_for_in_degrees_or_metres(recurra: Terminal, tmp_path: Path) -> None:
    flight = tmp_path / "geo.csv"
    north = [
        f"{k / 10},{47 + k * 0.6 / 111_195:.9f},8.0,{400 + 0.1 * k}" for k in range(80)
    ]  # 6 m/s, 1 m/s up
    flight.write_text("time,lat,lon,alt\n" + "\n".join(north) + "\n")
    ahead = 47 + (79 * 0.6 + 6.0) / 111_195
    told = []
    for near, kind in ((f"{ahead:.9f},8.0,408.9", "latitude, longitude"), ("0,53.4,8.9", "metres east")):
        code, out, err = recurra("predict", flight, "--near", near, "--radius", 3, "--json", "-")
        assert code == 0, err
        assert f"--near is taken for {kind}" in err
        told.append(json.loads(out)["predictions"][0]["approach"])
    for approach in told:
        assert approach["ahead_s"] == pytest.approx(1.0, abs=0.1)
        assert approach["distance_m"] < 0.3
        assert approach["entry_probability"] > 0.9


def test_folders_and_globs_are_inputs(recurra: Terminal, tmp_path: Path) -> None:
    for name in "abc":
        write_flight(tmp_path / f"{name}.csv")
    _, out, _ = recurra("predict", tmp_path, "--json", "-")
    assert len(json.loads(out)["predictions"]) == 3
    _, out, _ = recurra("predict", tmp_path / "[ab].csv", "--json", "-")
    assert len(json.loads(out)["predictions"]) == 2


def test_reader_settings_are_given_one_way_and_the_old_one(recurra: Terminal, tmp_path: Path) -> None:
    flight = tmp_path / "odd.csv"
    flight.write_text("when,a,b,c\n" + "".join(f"{k * 100},{k},{k},1\n" for k in range(60)))
    words = ["--read", "columns=t=when,x=a,y=b,z=c", "--read", "time_unit=ms"]
    code, new, err = recurra("predict", flight, *words, "--json", "-")
    assert code == 0, err
    old = recurra("predict", flight, "--columns", "t=when,x=a,y=b,z=c", "--time-unit=ms", "--json", "-")
    assert old[1] == new


def test_a_bad_file_of_a_folder_is_left_out_and_a_named_one_is_an_error(
    recurra: Terminal, tmp_path: Path
) -> None:
    for name in "ac":
        write_flight(tmp_path / f"{name}.csv")
    (tmp_path / "b.csv").write_text("nothing,here\n1,2\n")
    code, out, err = recurra("predict", tmp_path, "--json", "-")
    assert code == 0
    assert len(json.loads(out)["predictions"]) == 2
    assert "left out: " in err
    assert "b.csv" in err
    code, out, _ = recurra("evaluate", tmp_path / "a.csv", tmp_path / "b.csv", "--json", "-")
    assert code == 2
    report = json.loads(out)
    assert report["n"] == 8
    assert "b.csv" in report["items"][-1]["file"]
    assert "error" in report["items"][-1]


def test_words_along_a_track_work_together(recurra: Terminal, tmp_path: Path) -> None:
    flight = write_flight(tmp_path / "a.csv", samples=120)
    _, out, _ = recurra("predict", flight, "--every", 20, "--horizon", 0.5, "--at", 8, "--json", "-")
    answers = json.loads(out)["predictions"]
    assert [answer["t"] for answer in answers] == pytest.approx([2.0, 4.0, 6.0, 8.0])
    assert all(len(answer["ahead_s"]) == len(answer["mean"]) == 5 for answer in answers)


def test_a_clock_that_tells_a_date_is_answered_in_utc(recurra: Terminal, tmp_path: Path) -> None:
    log = tmp_path / "epoch.csv"
    rows = [f"{1767225600 + k / 10:.1f},{0.3 * k},0,5\n" for k in range(100)]
    log.write_text("timestamp,x,y,z\n" + "".join(rows))
    _, out, _ = recurra("predict", log, "-o", tmp_path / "p.csv", "--json", "-")
    assert json.loads(out)["predictions"][0]["utc"] == "2026-01-01T00:00:09.900000Z"
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0].endswith(",radius,utc")
    assert lines[10].endswith(",2026-01-01T00:00:10.900000Z")
    for at in ("5", "1767225605", "2026-01-01T00:00:05Z", "2026-01-01T01:00:05+01:00"):
        code, out, err = recurra("predict", log, "--at", at, "--json", "-")
        assert code == 0, err
        assert json.loads(out)["predictions"][0]["t"] == pytest.approx(5.0, abs=1e-4)
    for at in ("400", "1767225700", "2027-01-01T00:00:00Z"):
        code, _, err = recurra("predict", log, "--at", at)
        assert code == 2
        assert "beyond the track, which lasts 0 to 9.900 s" in err
    plain = write_flight(tmp_path / "a.csv")
    _, out, _ = recurra("predict", plain, "--json", "-")
    assert "utc" not in json.loads(out)["predictions"][0]


def test_geographic_flights_come_back_as_places(recurra: Terminal, tmp_path: Path) -> None:
    rows = [f"{k / 10},{47.0 + 2e-6 * k:.8f},{8.0:.8f},{500.0}" for k in range(60)]
    log = tmp_path / "geo.csv"
    log.write_text("time,lat,lon,alt\n" + "\n".join(rows) + "\n")
    code, out, err = recurra("predict", log, "-o", tmp_path / "p.geojson", "--json", "-")
    assert code == 0, err
    places = np.array(json.loads(out)["predictions"][0]["lat_lon_alt"])
    # 2e-5 degrees of latitude a second: one second later
    assert places[10, 0] == pytest.approx(47.0 + 2e-6 * 69, abs=5e-6)
    line = json.loads((tmp_path / "p.geojson").read_text())["features"][0]["geometry"]
    assert line["type"] == "LineString"
    assert line["coordinates"][0][:2] == pytest.approx([8.0, 47.0 + 2e-6 * 59], abs=1e-7)
    recurra("predict", log, "-o", tmp_path / "p.kml")
    assert "<coordinates>8.0000" in (tmp_path / "p.kml").read_text()
    code, _, err = recurra("predict", write_flight(tmp_path / "a.csv"), "-o", tmp_path / "x.kml")
    assert code == 2
    assert "no latitude and longitude" in err
    assert not (tmp_path / "x.kml").exists()


def test_predictions_are_written_as_csv(recurra: Terminal, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    recurra("predict", write_flight(tmp_path / "a.csv"), "--horizon", 2.5, "-o", out)
    lines = out.read_text().splitlines()
    assert lines[0] == "track,t,ahead_s,x,y,z,radius"
    assert len(lines) == 1 + 25
    assert lines[25].endswith(",2.500,,,,")


def test_evaluate_writes_the_agreed_report(recurra: Terminal, tmp_path: Path) -> None:
    flight = write_flight(tmp_path / "a.csv", samples=120)
    code, out, _ = recurra("evaluate", flight, "--json", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert code == 0
    overall = report["overall"]
    assert overall["n"] == (120 - 41) // 5 + 1
    assert set(overall["model"]["fde"]) == {"0.5", "1.0", "2.0"}
    assert 0 <= overall["model"]["coverage90"]["1.0"] <= 1
    assert overall["constant_velocity"]["fde"]["1.0"] == pytest.approx(0, abs=1e-9)
    assert overall["hold"]["fde"]["1.0"] == pytest.approx(np.hypot(3, 1), abs=1e-9)
    assert report["files"][0]["n"] == overall["n"]
    assert "constant_velocity" in out
    # the shape that every pipeline's report has
    assert report["n"] == overall["n"] == len(report["items"])
    assert report["model"]["fde_1s"] == pytest.approx(overall["model"]["fde"]["1.0"], rel=1e-12)
    assert report["model"]["fde_1s_low"] is None  # one flight: nothing to draw again
    assert report["baselines"]["hold"]["fde_1s"] == pytest.approx(np.hypot(3, 1), abs=1e-9)
    group = report["groups"][str(flight)]
    assert group["model"]["fde_1s"] == pytest.approx(report["model"]["fde_1s"], rel=1e-12)
    mean = np.mean([item["fde_1s"] for item in report["items"]])
    assert mean == pytest.approx(report["model"]["fde_1s"], abs=1e-4)
    assert {"file", "track", "t", "fde_1s", "coverage90_1s"} <= set(report["items"][0])


def test_stream_answers_line_by_line(recurra: Terminal) -> None:
    samples = [json.dumps({"t": k / 10, "id": "uav", "p": [0.3 * k, 0, 1]}) for k in range(30)]
    code, out, err = recurra("stream", "--horizon", 0.5, stdin="\n".join([*samples, "junk"]))
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(lines) == 27  # from the fourth position on
    assert lines[0]["history"] == 4
    assert lines[-1]["mean"][-1] == pytest.approx([8.7 + 1.5, 0, 1], abs=0.2)
    assert lines[-1]["latency_us"] > 0
    assert "skipped: line 31" in err
    assert json.loads(err.strip().splitlines()[-1])["predictions"] == 27


def test_simulate_writes_tracks_that_evaluate_reads(recurra: Terminal, tmp_path: Path) -> None:
    out = tmp_path / "flights.csv"
    assert recurra("simulate", "-o", out, "--flights", 4, "--seconds", 12, "--seed", 3)[0] == 0
    again = tmp_path / "again.csv"
    recurra("simulate", "-o", again, "--flights", 4, "--seconds", 12, "--seed", 3)
    assert out.read_bytes() == again.read_bytes()
    _, text, _ = recurra("evaluate", out, "--json", "-")
    report = json.loads(text)
    assert report["files"][0]["tracks"] == 4
    assert report["overall"]["n"] > 20


def test_train_evaluate_and_resume(recurra: Terminal, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = [
        "--set",
        "loop.epochs=2",
        "--set",
        "steps=4",
        "--set",
        "refine=8",
        "--set",
        "balls=8",
        "--set",
        "batch=16",
        "--set",
        "data.generated=40",
        "--set",
        "data.motions=2",
    ]
    small += ["--set", "model.hidden=8", "--set", "data.length=80"]
    code, _, err = recurra("train", "--out", run, *small, "--quiet", "--seed", 5)
    assert code == 0, err
    assert {"config.toml", "metrics.csv", "model.safetensors", "card.md"} <= {p.name for p in run.iterdir()}
    stages = [line.split(",")[0] for line in (run / "metrics.csv").read_text().splitlines()]
    assert stages == ["stage", "1-flight", "1-flight", "2-spread", "2-spread"]
    code, _, err = recurra("train", "--out", run, *small, "--quiet", "--seed", 5)
    assert code == 2
    assert "--resume" in err
    code, out, _ = recurra("evaluate", write_flight(tmp_path / "a.csv"), "--weights", run, "--json", "-")
    assert code == 0
    assert json.loads(out)["overall"]["model"]["fde"]["1.0"] < 3


WRONG: list[tuple[str, Any, str]] = [
    ("empty.csv", b"", "empty"),
    ("header.csv", b"timestamp,tx,ty,tz\n", "header|no (row|sample|line)|one sample"),
    ("one.csv", b"timestamp,tx,ty,tz\n0,1,2,3\n", "single sample|position"),
    ("nan.csv", b"timestamp,tx,ty,tz\n" + b"0.1,nan,nan,nan\n" * 30, "NaN|not a number|finite|numbers"),
    ("columns.csv", b"a,b\n1,2\n3,4\n", "column"),
    ("junk.bin", bytes(range(256)) * 8, "binary file"),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG, ids=[row[0] for row in WRONG])
def test_bad_files_are_one_sentence(
    name: str, content: bytes, message: str, recurra: Terminal, tmp_path: Path
) -> None:
    import re

    (tmp_path / name).write_bytes(content)
    out = tmp_path / "out.json"
    for verb in ("predict", "evaluate"):
        code, _, err = recurra(verb, tmp_path / name, "--json", out)
        assert code == 2
        assert re.search(message, err, re.IGNORECASE), err
        assert name in err
        assert len([line for line in err.strip().splitlines() if "Error:" in line]) == 1
        assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "nowhere.csv"], "nowhere.csv"),
        (["predict", "FLIGHT", "--weights", "trajectori-gru"], "trajectory-gru"),
        (["predict", "FLIGHT", "--weights", "JUNK"], "safetensors"),
        (["predict", "FLIGHT", "--weights", "JUNK.pth"], "statistics"),
        (["predict", "FLIGHT", "--horizon", "-1"], "horizon"),
        (["predict", "FLIGHT", "--coverage", "2"], "coverage"),
        (["predict", "FLIGHT", "--near", "a,b"], "--near wants metres"),
        (["predict", "FLIGHT", "--at", "noon"], "--at wants seconds or a time"),
        (["predict", "FLIGHT", "--read", "columns=t"], "--read columns wants name=value pairs"),
        (["predict", "FLIGHT", "--columns", "t"], "--read columns wants name=value pairs"),
        (["predict", "FLIGHT", "--read", "colour=t"], "no setting 'colour'; this section has alt, columns"),
        (["predict", "FLIGHT", "--device", "tpu"], "no device 'tpu'"),
        (["predict", "nowhere.csv", "-o", "x.doc"], r"written as \.json"),
        (["evaluate", "nowhere.csv", "--weights", "trajectori-gru"], "trajectory-gru"),
        (["predict", "FLIGHT", "-o", "x.doc"], r"written as \.json"),
        (["stream", "--mode", "stateful"], "trained on windows"),
        (["stream", "--udp", "x"], "host:port"),
        (["stream", "--udp", "a:1", "--mavlink", "b"], "not to both"),
        (["train", "--set", "model.unit=gruu"], "did you mean gru"),
        (["train", "--set", "loop.epoch=3"], "no setting"),
    ],
)
def test_wrong_words_are_one_sentence(
    words: list[str], message: str, recurra: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    write_flight(tmp_path / "flight.csv")
    (tmp_path / "junk").write_bytes(b"nonsense")
    (tmp_path / "junk.pth").write_bytes(b"nonsense")
    known = {"FLIGHT": "flight.csv", "JUNK": "junk", "JUNK.pth": "junk.pth"}
    code, _, err = recurra(*[known.get(word, word) for word in words])
    assert code == 2
    assert re.search(message, err, re.IGNORECASE), err
    assert "Traceback" not in err
