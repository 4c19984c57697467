"""Flights: tables, JSON lines, Parquet, GPX, ArduPilot, ULog, samples and live streams, published weights."""

import io
import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np

from apps.trajectory.config import TrainConfig
from apps.trajectory.data import read_tracks
from apps.trajectory.models import vector
from apps.trajectory.prediction import Prediction
from apps.trajectory.samples import parse_sample
from apps.trajectory.stream import Stream, StreamConfig, run
from core import config
from core.errors import DataError
from tests.fuzz import mutate
from tests.fuzz.domains.bags import bags, mavlink
from tests.fuzz.reader import Reader

ROWS = [(round(i * 0.1, 1), i * 0.5, i * 0.1, 5.0) for i in range(8)]
HEADS = (
    ("t", "x", "y", "z"),
    ("time", "lat", "lon", "alt"),
    ("timestamp [ns]", "p_x", "p_y", "p_z"),
    ("t", "x", "y", "id"),
    ("datetime", "east", "north", "up"),
    ("stamp_sec", "stamp_nsec", "x", "y"),
)


def read(path: str) -> Any:
    tracks = read_tracks(path)
    for track in tracks:
        assert np.isfinite(track.positions).all()
        assert (np.diff(track.time_s) > 0).all()
    return [track.positions for track in tracks]


def make_table(chance: random.Random) -> bytes:
    rows: list[tuple[Any, ...]] = list(ROWS)
    if chance.random() < 0.2:  # TUM, EuRoC and KITTI have no header
        width = chance.choice((3, 4, 8, 11, 12, 17))
        rows = [tuple(round(chance.uniform(-1, 1), 3) for _ in range(width)) for _ in ROWS]
        rows = [(10**18 + i * 10**8 if width > 4 else i, *row[1:]) for i, row in enumerate(rows)]
        return mutate.table(chance, (), rows)
    return mutate.table(chance, chance.choice(HEADS), rows)


def make_lines(chance: random.Random) -> bytes:
    kinds = (
        lambda t, x, y, z: {"t": t, "id": "a", "p": [x, y, z]},
        lambda t, x, y, z: {"time": t, "x": x, "y": y, "z": z, "note": None},
        lambda t, x, y, z: {
            "header": {"stamp": {"sec": int(t), "nanosec": 5}},
            "pose": {"position": {"x": x, "y": y}},
        },
    )
    kind = chance.choice(kinds)
    rows = [kind(*row) for row in ROWS]
    odd = chance.randrange(len(rows))
    rows[odd] = mutate.tree(chance, rows[odd], chance.choice((1, 1, 2)))
    if chance.random() < 0.2:
        return mutate.as_json(chance, rows)
    return b"\n".join(mutate.as_json(chance, row) for row in rows)


def make_parquet(chance: random.Random) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(chance.choice(HEADS))
    columns: list[Any] = [pa.array(list(column)) for column in zip(*ROWS, strict=True)]
    n = len(ROWS)
    odd = (
        lambda: pa.array([b"\xff\x00"] * n),
        lambda: pa.array(["a\x1b"] * n),
        lambda: pa.array([None] * n),
        lambda: pa.array([True] * n),
        lambda: pa.array([[1, 2]] * n),
        lambda: pa.array([{"a": 1}] * n),
        lambda: pa.array([b"ab"] * n, pa.binary(2)),
        lambda: pa.array(
            range(n),
            pa.timestamp(chance.choice(("s", "ms", "us", "ns")), chance.choice((None, "UTC", "Asia/Tokyo"))),
        ),
        lambda: pa.array(range(n), pa.date32()),
        lambda: pa.array(range(n), pa.time64("us")),
        lambda: pa.array(range(n), pa.duration("ms")),
        lambda: pa.array(range(n), pa.int8()),
        lambda: pa.array(range(n), pa.uint64()),
        lambda: pa.array([2**63 + i for i in range(n)], pa.uint64()),
        lambda: pa.array(np.arange(n, dtype=np.float16)),
        lambda: pa.array([1e300 * i for i in range(n)]),
        lambda: pa.array([float("nan")] * n),
        lambda: pa.array(range(n)).cast(pa.decimal128(30, 3)),
        lambda: pa.array(["x", "y"] * (n // 2)).dictionary_encode(),
        lambda: pa.array(range(n)).dictionary_encode(),
        lambda: pa.array(["a" * 1000] * n, pa.large_string()),
        lambda: pa.array(["2026-01-01T00:00:00Z"] * n),
        lambda: pa.array([str(i) for i in range(n)]),
        lambda: pa.array([-(2**62)] * n),
    )
    for _ in range(chance.choice((0, 1, 1, 2))):
        place = chance.randrange(len(columns) + 1)
        name = chance.choice((*names, "id", "vx", "note", mutate.spoiled(chance).replace("\udc80", "?")))
        if place == len(columns):
            names.append(name)
            columns.append(chance.choice(odd)())
        else:
            columns[place] = chance.choice(odd)()
    made = pa.Table.from_arrays(columns, names=names)
    if chance.random() < 0.3:
        about = {
            "index_columns": ["t"],
            "columns": [{"name": "t", "pandas_type": "float64"}],
            "column_indexes": [],
        }
        notes = json.dumps(mutate.tree(chance, about), ensure_ascii=True)
        made = made.replace_schema_metadata({"pandas": notes})
    file = io.BytesIO()
    pq.write_table(made, file, row_group_size=chance.choice((3, 100)), use_dictionary=chance.random() < 0.7)
    data = file.getvalue()
    return mutate.blocks(chance, data) if chance.random() < 0.3 else data


GPX = (
    '<?xml version="1.0"?><gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>\n'
    + "\n".join(
        f'<trkpt lat="47.{i:03}" lon="8.{i:03}"><ele>40{i}</ele><time>2026-01-01T00:00:0{i}Z</time></trkpt>'
        for i in range(8)
    )
    + "\n</trkseg></trk></gpx>"
)
ARDU = "FMT, 128, 89, POS, QLLfff, TimeUS,Lat,Lng,Alt,RelHomeAlt,RelOriginAlt\n" + "\n".join(
    f"POS, {i * 100000}, 47.{i:05}, 8.{i:05}, 40{i}.5, 1.0, 1.0" for i in range(8)
)


def make_ulog(chance: random.Random) -> bytes:
    from tests.apps.trajectory import ulog_file

    place = np.array([row[1:] for row in ROWS])
    times, still = np.arange(len(ROWS)) * 100_000, np.ones(len(ROWS), dtype=bool)
    return mutate.blocks(chance, ulog_file.ulog(times, place, np.zeros_like(place), still))


def make_nmea(chance: random.Random) -> bytes:
    """Sentences of a receiver, most of them with their sums right."""
    lines = []
    for i in range(8):
        fix = f"GPGGA,12000{i}.00,47{i:02}.1234,N,00823.4567,E,1,08,0.9,40{i}.5,M,47.0,M,,"
        lines += [fix, f"GPRMC,12000{i}.00,A,47{i:02}.1234,N,00823.4567,E,1.0,90.0,010126,,"]
    for _ in range(chance.choice((0, 1, 1, 2))):
        place = chance.randrange(len(lines))
        lines[place] = (
            mutate.words(chance, lines[place], 1).decode("utf-8", "surrogatepass").replace("\n", "")
        )
    found = []
    for line in lines:
        data = line.encode("utf-8", "surrogatepass")
        total = 0
        for byte in data:
            total ^= byte
        found.append(b"$%s*%02X" % (data, total if chance.random() < 0.95 else 0))
    return b"\r\n".join(found)


def make_dataflash(chance: random.Random) -> bytes:
    """ArduPilot's binary log: a FMT of itself, one of POS, and rows of it."""

    def described(kind: int, size: int, name: bytes, form: bytes, columns: bytes) -> bytes:
        return b"\xa3\x95\x80" + struct.pack("<BB4s16s64s", kind, size, name, form, columns)

    rows = b"".join(
        b"\xa3\x95\x81" + struct.pack("<Qiif", i * 100_000, 470_000_000 + i * 1000, 80_000_000 + i, 400.0 + i)
        for i in range(8)
    )
    head = described(128, 89, b"FMT", b"BBnNZ", b"Type,Length,Name,Format,Columns")
    return mutate.blocks(chance, head + described(129, 23, b"POS", b"QLLf", b"TimeUS,Lat,Lng,Alt") + rows)


def sample(i: int) -> dict[str, Any]:
    return {"t": i / 10, "id": "a", "p": [i * 0.5, 0.0, 5.0]}


def make_sample(chance: random.Random) -> bytes:
    return mutate.as_json(chance, mutate.tree(chance, sample(3), chance.choice((0, 1, 1, 2))))


def read_sample(path: str) -> Any:
    found = parse_sample(Path(path).read_bytes())
    return [found.t, *found.p]


class Last:
    """The last velocity goes on, carried as a state: what an engine must not be poisoned by."""

    history, shortest, horizon, dt, dims, follows = 5, 2, 4, 0.1, 3, False

    def window(
        self, past: np.ndarray, step_s: float | None = None, through: np.ndarray | None = None
    ) -> Prediction:
        return self.forecast((past[-2], past[-1]))  # pyright: ignore

    def begin(self, position: np.ndarray) -> Any:
        return position, position

    def step(self, state: Any, position: np.ndarray) -> Any:
        return state[1], position

    def forecast(self, state: Any) -> Prediction | None:
        ahead = np.arange(1, self.horizon + 1)[:, None]
        mean = state[1] + ahead * (state[1] - state[0])
        return Prediction(time_s=0.0, ahead_s=self.dt * ahead[:, 0], mean=mean, anchor=state[1])


def make_stream(chance: random.Random) -> bytes:
    lines = [sample(i) for i in range(50)]
    for _ in range(chance.choice((1, 2, 4))):
        place = chance.randrange(len(lines))
        if chance.random() < 0.5:
            lines[place] = mutate.tree(chance, lines[place])
        else:
            jump = chance.choice((-1e9, -3600, -0.05, 0, 3600, 1e9))
            start = chance.choice((None, place))
            for one in lines[place:] if start is None else lines[place : place + 1]:
                if isinstance(one, dict) and isinstance(one.get("t"), float):
                    one["t"] += jump
    return b"\n".join(mutate.as_json(chance, line) for line in lines)


def read_stream(path: str) -> Any:
    stream = Stream(Last(), StreamConfig(mode="stateful" if len(path) % 2 else "window"))
    written: list[str] = []

    def source() -> Any:
        for line in Path(path).read_bytes().split(b"\n"):
            try:
                yield parse_sample(line)
            except DataError as error:
                yield error

    def no(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    run(stream, source(), written.append, lambda text: None)
    for line in written:
        json.loads(line, parse_constant=no)
    return None if written else DataError


def make_vector(chance: random.Random) -> bytes:
    file = io.BytesIO()
    np.savez(file, max_velocity=np.array([10.0]), input_mean=np.zeros(3), L_matrix=np.eye(3))
    shapes = np.array([10.0]), np.zeros(3), np.eye(3), np.array([np.nan]), np.zeros(0), np.array(-1.0)
    return mutate.members(
        chance, file.getvalue(), lambda chance, data: mutate.npy(chance, chance.choice(shapes))
    )


def read_stats(path: str) -> Any:
    scaling, _ = vector.read_stats(path, "white" if len(path) % 2 else "max")
    return [float(scaling.maximum)] if scaling.kind == "max" else [scaling.mean.numpy()]  # pyright: ignore


READERS = [
    Reader("trajectory-tables", make_table, read, ".csv", 4.0),
    Reader("trajectory-lines", make_lines, read, ".jsonl", 3.0),
    Reader("trajectory-parquet", make_parquet, read, ".parquet", 4.0),
    Reader("trajectory-gpx", lambda chance: mutate.words(chance, GPX), read, ".gpx", 1.5),
    Reader("trajectory-ardupilot", lambda chance: mutate.words(chance, ARDU), read, ".log", 1.5),
    Reader("trajectory-nmea", make_nmea, read, ".nmea", 1.0),
    Reader("trajectory-dataflash", make_dataflash, read, ".bin", 1.0),
    Reader("trajectory-ulog", make_ulog, read, ".ulg", 2.0),
    Reader("trajectory-bag", bags("geometry_msgs/msg/PoseStamped"), read, ".bag", 1.0),
    Reader("trajectory-tlog", lambda chance: mutate.blocks(chance, mavlink()), read, ".tlog", 1.0),
    Reader("trajectory-sample", make_sample, read_sample, ".json", 1.0),
    Reader("trajectory-stream", make_stream, read_stream, ".jsonl", 4.0),
    Reader("trajectory-stats", make_vector, read_stats, ".npz", 1.0),
    Reader(
        "trajectory-settings",
        lambda chance: mutate.words(chance, config.to_toml(config.to_dict(TrainConfig()))),
        lambda path: config.to_dict(config.resolve(TrainConfig(), path)),
        ".toml",
        1.5,
    ),
]
