"""The live mode: rules for rates, gaps, duplicates, late samples, many tracks and hostile lines."""

import io
import json
import math
import socket
import sys
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.trajectory.counters import Counters
from apps.trajectory.prediction import Prediction
from apps.trajectory.sources import json_lines, udp
from apps.trajectory.stream import MAX_LINE, Sample, Stream, StreamConfig, parse_sample, run
from core.errors import ConfigError, DataError


def ahead(position: np.ndarray, step: np.ndarray, step_s: float = 0.1) -> Prediction:
    """Five steps straight on, with radii 1 to 5."""
    mean = position + step * np.arange(1, 6)[:, None]
    return Prediction(0.0, step_s * np.arange(1, 6), position, mean, radius=np.arange(1.0, 6.0))


class LastVelocity:
    """Goes on as in the last step; the plainest engine there is."""

    dt = 0.1
    history = shortest = horizon = 5
    follows = True
    dims = 3

    def window(
        self, past: np.ndarray, step_s: float | None = None, through: np.ndarray | None = None
    ) -> Prediction:
        return ahead(past[-1], past[-1] - past[-2], step_s or self.dt)

    def begin(self, position: np.ndarray) -> Any:
        return (position, position, 1)

    def step(self, state: Any, position: np.ndarray) -> Any:
        return (state[1], position, state[2] + 1)

    def forecast(self, state: Any) -> Prediction | None:
        before, now, seen = state
        if seen < self.history:
            return None
        return ahead(now, now - before)


def line_of_flight(rate: float, seconds: float, name: str | int = 0) -> list[Sample]:
    """Straight flight at 2 m/s along x."""
    return [Sample(k / rate, name, (2.0 * k / rate, 1.0, 3.0)) for k in range(int(seconds * rate) + 1)]


def predictions(stream: Stream, samples: list[Sample]) -> list[dict[str, Any]]:
    return [line for sample in samples if (line := stream.feed(sample)) is not None]


@pytest.mark.parametrize("mode", ["window", "stateful"])
@pytest.mark.parametrize("rate", [5, 10, 37, 100, 500])
def test_any_rate_gives_the_straight_line(mode: str, rate: float) -> None:
    lines = predictions(Stream(LastVelocity(), StreamConfig(mode=mode)), line_of_flight(rate, 2.0))
    assert len(lines) > rate
    for line in lines:
        expected = [[2 * (line["t"] + h), 1.0, 3.0] for h in line["ahead_s"]]
        np.testing.assert_allclose(line["mean"], expected, atol=2e-4)


def test_the_window_is_anchored_at_the_newest_sample() -> None:
    lines = predictions(Stream(LastVelocity()), line_of_flight(37, 1.0))
    assert lines[-1]["t"] == pytest.approx(1.0)
    assert lines[-1]["age_s"] < 0.05


def test_no_prediction_before_the_history_is_full() -> None:
    lines = predictions(Stream(LastVelocity()), line_of_flight(10, 2.0))
    assert lines[0]["t"] == pytest.approx(0.4)


def test_late_and_duplicate_samples_are_counted_and_skipped() -> None:
    samples = line_of_flight(10, 1.0)
    shuffled = [*samples[:6], samples[5], samples[2], *samples[6:]]
    stream, clean = Stream(LastVelocity()), Stream(LastVelocity())
    ours, expected = predictions(stream, shuffled), predictions(clean, samples)
    assert [line["mean"] for line in ours] == [line["mean"] for line in expected]
    assert (stream.counters.duplicate, stream.counters.late) == (1, 1)


@pytest.mark.parametrize("mode", ["window", "stateful"])
def test_a_gap_starts_the_track_anew(mode: str) -> None:
    stream = Stream(LastVelocity(), StreamConfig(mode=mode))
    predictions(stream, line_of_flight(10, 1.0))
    after = [Sample(2.0 + k / 10, 0, (50.0 - k, 0.0, 0.0)) for k in range(6)]
    lines = predictions(stream, after)
    assert stream.counters.gaps == 1
    assert lines[0]["t"] == pytest.approx(2.4)
    np.testing.assert_allclose(lines[0]["mean"][0], [45.0, 0.0, 0.0], atol=1e-3)


def test_tracks_do_not_see_each_other() -> None:
    a, b = (
        line_of_flight(10, 1.0, "a"),
        [Sample(s.t, "b", (0.0, -s.p[0], 0.0)) for s in line_of_flight(10, 1.0)],
    )
    mixed = predictions(Stream(LastVelocity()), [s for pair in zip(a, b, strict=True) for s in pair])
    for name, alone in (("a", a), ("b", b)):
        ours = [line["mean"] for line in mixed if line["id"] == name]
        assert ours == [line["mean"] for line in predictions(Stream(LastVelocity()), alone)]


@pytest.mark.parametrize("mode", ["window", "stateful"])
def test_a_sender_that_restarts_begins_its_track_anew(mode: str) -> None:
    stream = Stream(LastVelocity(), StreamConfig(mode=mode))
    predictions(stream, [Sample(s.t + 500, 0, s.p) for s in line_of_flight(10, 3.0)])
    lines = predictions(stream, line_of_flight(10, 2.0))
    assert stream.counters.restarts == 1
    assert lines[0]["t"] == pytest.approx(0.4)
    assert len(lines) == 17
    np.testing.assert_allclose(lines[-1]["mean"][-1], [5.0, 1.0, 3.0], atol=1e-3)


@pytest.mark.parametrize("wrong", [1e9, -1e9, 1e300])
def test_one_bad_stamp_costs_one_sample(wrong: float) -> None:
    samples = line_of_flight(10, 4.0)
    samples[20] = Sample(wrong, 0, samples[20].p)
    stream = Stream(LastVelocity())
    stream.feed(Sample(0.0, "other", (0.0, 0.0, 0.0)))
    lines = predictions(stream, samples)
    assert len(lines) == len(samples) - 4 - 1
    assert lines[-1]["t"] == pytest.approx(4.0)
    assert (stream.counters.strays, stream.counters.restarts, stream.counters.expired) == (1, 0, 0)


def test_places_on_the_wire_become_metres_and_come_back_as_places() -> None:
    # 0.2 m north a tenth of a second
    text = "\n".join(
        json.dumps({"t": k / 10, "id": "g", "lat": 47 + 1.799e-6 * k, "lon": 8.0, "alt": 400})
        for k in range(8)
    )
    out: list[str] = []
    run(Stream(LastVelocity()), json_lines(io.BytesIO(text.encode())), out.append, out.append)
    line = json.loads(out[-1])
    np.testing.assert_allclose(line["anchor"], [0, 1.4, 0], atol=2e-3)
    np.testing.assert_allclose(line["lat_lon_alt"][5], [47 + 1.799e-6 * 12, 8.0, 400.0], atol=1e-5)
    with pytest.raises(DataError, match="is no place; swapped"):
        parse_sample('{"t": 1, "lat": 147, "lon": 8}')


def test_silent_tracks_expire() -> None:
    stream = Stream(LastVelocity(), StreamConfig(expire_s=1.0))
    for sample in line_of_flight(10, 1.0, "old"):
        stream.feed(sample, arrival=100 + sample.t)
    stream.feed(Sample(9e9, "odd", (0.0, 0.0, 0.0)), arrival=101.5)
    assert set(stream.tracks) == {"old", "odd"}
    stream.feed(Sample(0.0, "new", (0.0, 0.0, 0.0)), arrival=102.2)
    assert set(stream.tracks) == {"odd", "new"}
    assert stream.counters.expired == 1


def test_of_too_many_tracks_the_most_silent_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.trajectory.stream.MAX_TRACKS", 3)
    stream = Stream(LastVelocity(), StreamConfig(expire_s=1e6))
    for now, name in enumerate("abcab"):
        stream.feed(Sample(float(now), name, (0.0, 0.0, 0.0)), arrival=float(now))
    stream.feed(Sample(0.0, "d", (0.0, 0.0, 0.0)), arrival=9.0)
    assert set(stream.tracks) == {"a", "b", "d"}


def test_a_track_that_stops_says_so_once() -> None:
    stream = Stream(LastVelocity())
    stream.feed(Sample(3.0, "a", (0.0, 0.0, 0.0)))
    assert list(stream.tick(answers=False)) == []
    stream.tracks["a"].arrival -= 2.0
    (line,) = stream.tick(answers=False)
    assert (line["id"], line["t"], line["waiting"], line["stale"]) == ("a", 3.0, True, True)
    assert list(stream.tick(answers=False)) == []


@pytest.mark.parametrize("step", [0.4, 1.0, 10.0])
def test_the_step_of_an_answer_follows_the_samples(step: float) -> None:
    stream = Stream(LastVelocity())
    lines = predictions(stream, [Sample(step * k, 0, (2.0 * step * k, 0.0, 0.0)) for k in range(30)])
    assert len(lines) == 26
    assert stream.tracks[0].step == pytest.approx(step)


def test_a_jump_costs_one_sample_and_a_lasting_one_begins_the_track_anew() -> None:
    samples = line_of_flight(10, 4.0)
    samples[20] = Sample(samples[20].t, 0, (900.0, 1.0, 3.0))
    stream = Stream(LastVelocity())
    lines = predictions(stream, samples)
    assert (stream.counters.jumps, stream.counters.restarts) == (1, 0)
    assert max(abs(line["mean"][0][0]) for line in lines) < 20
    moved = [Sample(s.t + 4.1, 0, (s.p[0] + 500, 1.0, 3.0)) for s in line_of_flight(10, 2.0)]
    lines = predictions(stream, moved)
    assert (stream.counters.jumps, stream.counters.restarts) == (1, 1)
    np.testing.assert_allclose(lines[-1]["mean"][-1], [505.0, 1.0, 3.0], atol=1e-3)


def test_dims_belong_to_each_track() -> None:
    stream = Stream(LastVelocity())
    ship = [Sample(k / 10, "ship", (k / 5, 1.0)) for k in range(11)]
    drone = line_of_flight(10, 1.0, "drone")
    lines = predictions(stream, [s for pair in zip(ship, drone, strict=True) for s in pair])
    assert {(line["id"], len(line["mean"][0])) for line in lines} == {("ship", 2), ("drone", 3)}
    with pytest.raises(DataError, match="p has 3 coordinates; track 'ship' has 2"):
        stream.feed(Sample(2.0, "ship", (0.0, 0.0, 0.0)))


def test_balls_of_a_track_follow_its_misses() -> None:
    stream = Stream(LastVelocity())
    rng = np.random.default_rng(0)
    noisy = [Sample(k / 10, 0, tuple(rng.normal(0, 20.0, 3).tolist())) for k in range(400)]
    calm = line_of_flight(10, 30.0, "calm")
    wild, still = predictions(stream, noisy), predictions(stream, calm)
    assert wild[-1]["radius"][0] > 5 * wild[0]["radius"][0]
    assert still[-1]["radius"][0] < 0.5 * still[0]["radius"][0]


def test_a_stream_that_cannot_answer_says_why() -> None:
    said: list[str] = []
    stream = Stream(LastVelocity(), StreamConfig(max_gap_s=0.5))
    run(stream, [Sample(float(k), "slow", (0.0, 0.0, 0.0)) for k in range(30)], lambda _: None, said.append)
    assert any("--max-gap" in sentence for sentence in said)


def test_tracks_that_will_meet_are_told() -> None:
    stream = Stream(LastVelocity(), StreamConfig(between_m=2.0))
    told: list[dict[str, Any]] = []
    a = [Sample(k / 10, "a", (k / 10 * 4, 0.0, 0.0)) for k in range(20)]
    b = [Sample(k / 10, "b", (10 - k / 10 * 4, 1.0, 0.0)) for k in range(20)]
    c = [Sample(k / 10, "c", (500.0, 0.0, 0.0)) for k in range(20)]
    run(
        stream,
        [s for three in zip(a, b, c, strict=True) for s in three],
        lambda line: told.append(json.loads(line)),
        lambda _: None,
    )
    meetings = [line for line in told if "between" in line]
    assert meetings
    assert all(line["between"] == ["a", "b"] for line in meetings)
    first = meetings[0]
    assert first["distance_m"] <= 2.0
    assert 0 < first["probability"] < 1


def test_beyond_the_horizon_the_answer_is_null() -> None:
    lines = predictions(Stream(LastVelocity(), StreamConfig(horizon_s=0.8)), line_of_flight(10, 1.0))
    assert lines[0]["mean"][5:] == [None, None, None]
    assert lines[0]["radius"][4:] == [5.0, None, None, None]
    assert lines[0]["ahead_s"][-1] == pytest.approx(0.8)


def test_predictions_can_be_thinned_out() -> None:
    lines = predictions(Stream(LastVelocity(), StreamConfig(every_s=0.2)), line_of_flight(100, 2.0))
    steps = np.diff([line["t"] for line in lines])
    np.testing.assert_allclose(steps, 0.2, atol=1e-6)


def test_an_old_anchor_is_flagged_stale() -> None:
    stream = Stream(LastVelocity())
    predictions(stream, line_of_flight(10, 1.0))
    for track in stream.tracks.values():
        track.arrival -= 0.5
    (line,) = stream.tick()
    assert line["stale"] is True
    assert line["age_s"] > 0.5


def test_known_velocities_bend_the_path_between_slow_samples() -> None:
    def at(t: float) -> Sample:
        return Sample(t, 0, (math.sin(t), math.cos(t), 2.0), (math.cos(t), -math.sin(t), 0.0))

    stream = Stream(LastVelocity())
    for k in range(8):
        stream.feed(at(0.2 * k))
    times = np.array([0.9, 1.0, 1.1])
    np.testing.assert_allclose(stream.tracks[0].at(times)[:, 0], np.sin(times), atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_a_sample_of_other_coordinates_never_reaches_the_model(count: int) -> None:
    stream = Stream(LastVelocity())
    lines = line_of_flight(10, 2.0)
    sentence = rf"p has {count} coordinates; the model predicts 3\."
    with pytest.raises(DataError, match=sentence):
        stream.feed(Sample(0.0, 0, (1.0,) * count))
    expected = predictions(Stream(LastVelocity()), lines)
    predictions(stream, lines[:10])
    with pytest.raises(DataError, match=sentence):
        stream.feed(Sample(0.95, 0, (1.0,) * count))
    with pytest.raises(DataError, match=f"v has {count} coordinates"):
        stream.feed(Sample(0.95, 0, (1.0,) * 3, (1.0,) * count))
    assert predictions(stream, lines[10:])[-1]["mean"] == expected[-1]["mean"]
    assert stream.counters.samples == len(lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "not a JSON line"),
        ("[1]", 'needs "t"'),
        ('{"t": 1}', 'needs "t"'),
        ('{"t": "x", "p": [0, 0]}', "t must be a number"),
        ('{"t": true, "p": [0, 0]}', "t must be a number"),
        ('{"t": 1, "p": [0]}', "p must be a list of 2 or 3"),
        ('{"t": 1, "p": [0, NaN]}', "p must be finite"),
        ('{"t": 1e400, "p": [0, 0]}', "t must be finite"),
        ('{"t": 1, "p": [0, 0], "v": [1, 2, 3]}', "v has 3 values and p 2"),
        ('{"t": 1, "p": [0, 0], "id": [1]}', "id must be"),
        ("[" * 60_000, "not a JSON line"),
        ('{"t": ' + "9" * 5000 + ', "p": [0, 0]}', "not a JSON line|t must be"),
    ],
)
def test_a_wrong_line_says_what_is_wrong(line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_sample(line)


@pytest.mark.parametrize(
    "line",
    [
        '{"t": 1767225600.5, "id": "a", "p": [1, 2, 3], "v": [4, 5, 6]}',
        '{"time": "2026-01-01T00:00:00.5Z", "name": "a", "p": {"x": 1, "y": 2, "z": 3}, "v": [4, 5, 6]}',
        '{"timestamp": 1767225600500, "track_id": "a", "x": 1, "y": 2, "z": 3, "vx": 4, "vy": 5, "vz": 6}',
        '{"t": "2026-01-01 01:00:00.5+01:00", "id": "a", "pos": [1, 2, 3], "vel": {"x": 4, "y": 5, "z": 6}}',
    ],
)
def test_other_senders_are_understood(line: str) -> None:
    sample = parse_sample(line)
    assert (sample.t, sample.id, sample.p, sample.v) == (1767225600.5, "a", (1, 2, 3), (4, 5, 6))
    place = parse_sample('{"time": 3, "latitude": 47, "lng": 8, "altitude": 400}')
    assert (place.p, place.origin) == ((0, 0, 0), (47, 8, 400))


@given(st.binary(max_size=200) | st.text(max_size=200))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_random_lines_only_raise_data_errors(line: str | bytes) -> None:
    try:
        parse_sample(line)
    except DataError:
        pass


def test_a_bad_line_does_not_stop_the_stream() -> None:
    good = [json.dumps({"t": k / 10, "p": [k, 0, 0]}) for k in range(10)]
    huge = "x" * (3 * MAX_LINE)
    text = "\n".join([*good[:5], "rubbish", huge, '{"t": 0.45, "p": [1, 2]}', *good[5:]]).encode()
    out: list[str] = []
    complaints: list[str] = []
    counters = run(Stream(LastVelocity()), json_lines(io.BytesIO(text)), out.append, complaints.append)
    assert counters.malformed == 3
    assert len(out) == 6
    assert "line 6: not a JSON line" in complaints[0]
    assert f"line 7: {len(huge) + 1} bytes" in complaints[1]
    assert "p has 2 coordinates; track 0 has 3" in complaints[2]
    assert counters.summary()["predictions"] == 6


def test_a_counted_reset_begins_the_track_anew() -> None:
    stream = Stream(LastVelocity())
    for k in range(30):
        moved = 1.5 if k >= 15 else 0.0  # too little for the gate
        stream.feed(Sample(k / 10, 0, (k / 10 + moved, 0.0, 0.0), resets=3 + (k >= 15)))
    assert stream.counters.restarts == 1
    assert stream.tracks[0].times[0] == 1.5


def test_udp_packets_are_samples_and_silence_ticks() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    source = udp(f"127.0.0.1:{port}", tick_s=0.05)
    assert next(source) is None

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b'{"t": 1, "p": [1, 2, 3]}\n{"t": 2, "p": [1, 2, 3]}', ("127.0.0.1", port))
            sender.sendto(b"junk", ("127.0.0.1", port))

    threading.Thread(target=send).start()
    received: list[Any] = []
    for item in source:
        if item is not None:
            received.append(item)
        if len(received) == 3:
            break
    source.close()  # type: ignore[attr-defined]
    assert [item.t for item in received[:2]] == [1.0, 2.0]
    assert isinstance(received[2], DataError)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system counts dropped packets on Linux")
def test_packets_that_the_system_dropped_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apps.trajectory.sources.BUFFER", 4096)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    counters = Counters()
    source = udp(f"127.0.0.1:{port}", 0.05, lambda count: setattr(counters, "lost", count))
    assert next(source) is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(400):
            sender.sendto(b'{"t": %d, "p": [1, 2, 3]}' % number, ("127.0.0.1", port))
        kept = list(iter(lambda: next(source), None))
        sender.sendto(b'{"t": 400, "p": [1, 2, 3]}', ("127.0.0.1", port))
        last: Any = next(source)
        assert last.t == 400  # it brings the count
    source.close()  # type: ignore[attr-defined]
    assert 0 < len(kept) < 400
    assert counters.lost == 400 - len(kept)
    assert counters.summary()["lost"] == counters.lost


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:0", "127.0.0.1:99999", ":x"])
def test_a_wrong_address_is_named(address: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        next(udp(address))


def test_mavlink_messages_become_east_north_up() -> None:
    mavlink = pytest.importorskip("pymavlink.dialects.v20.common")
    from apps.trajectory.sources import from_mavlink

    origins: dict[str, Any] = {}
    local = mavlink.MAVLink_local_position_ned_message(1500, 10.0, 20.0, -30.0, 1.0, 2.0, -3.0)
    local._header.srcSystem = 7
    sample = from_mavlink(local, origins)
    assert sample == Sample(1.5, "7/LOCAL_POSITION_NED", (20.0, 10.0, 30.0), (2.0, 1.0, 3.0))
    first = mavlink.MAVLink_global_position_int_message(0, 470000000, 80000000, 500000, 0, 0, 0, 0, 0)
    later = mavlink.MAVLink_global_position_int_message(
        100, 470001000, 80001000, 510000, 0, 100, 200, -300, 0
    )
    pose = mavlink.MAVLink_odometry_message(
        1_500_000, 1, 8, 1.0, 2.0, -3.0, [1.0, 0, 0, 0], 0, 0, 0, 0, 0, 0, [0] * 21, [0] * 21, reset_counter=7
    )
    assert from_mavlink(pose, origins) == Sample(1.5, "0/ODOMETRY", (2.0, 1.0, 3.0), resets=7)
    assert from_mavlink(first, origins).p == (0.0, 0.0, 0.0)
    moved = from_mavlink(later, origins)
    np.testing.assert_allclose(moved.p, [7.61, 11.12, 10.0], atol=0.05)
    np.testing.assert_allclose(moved.v, [2.0, 1.0, 3.0])
