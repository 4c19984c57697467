"""A drive past the sensor, sweep by sweep, with its tracks; models and operators side by side."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from threading import Lock

import numpy as np

from demos.first import once
from demos.markup import table
from demos.plots import thinned
from demos.progress import told
from demos.sections.pointcloud_above import Shape, seen_from_above
from vision.pointcloud.baselines import hand_made
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.models.operators import PUBLISHED, UNITS, measured
from vision.pointcloud.poses import Pose, in_world
from vision.pointcloud.predict import Detector
from vision.pointcloud.synth.sequence import Sweep, sequence
from vision.pointcloud.track import TrackConfig, Tracked, Tracker

SWEEPS = 8
FIRST = 1_700_000
"""Seeds of the drives: nothing is trained on them."""
REACH_M = 40.0
STEP_S = 0.3
"""Between two sweeps of the player."""
TOKENS, WIDTH = 8192, 64
"""Voxels and channels that the operators run along, as in the README's table."""
TRACK_COLOURS = ("var(--r-ours)", "var(--r-second)", "var(--r-third)", "#b0326b", "#2d7fd6", "#8a8f98")


@dataclass(frozen=True)
class Turn:
    """One sweep of a drive in the world's frame."""

    points: np.ndarray
    """(n, 2) what stands above the ground, from above."""
    own: tuple[float, float]
    tracks: tuple[Tracked, ...]


class Drive:
    """A drive whose sweeps go through detector and tracker when they are asked for, each once."""

    def __init__(self, sensor: str, seed: int, weights: str, score: float) -> None:
        self.sweeps = iter(sequence(FIRST + seed, sensor, SWEEPS, tilted=False))
        self.detector, self.score = Detector.open(weights), score
        self.detector.mirror = False
        self.tracker, self.turns = Tracker(TrackConfig(hits=2)), []
        self.lock = Lock()

    def upto(self, number: int) -> list[Turn]:
        """The first sweeps, at most as many as there are."""
        with self.lock:
            missing = min(number, SWEEPS) - len(self.turns)
            for sweep in told(islice(self.sweeps, max(missing, 0)), missing, "sweep"):
                self.turns.append(self.turn(sweep))
        return self.turns[:number]

    def turn(self, sweep: Sweep) -> Turn:
        """One sweep."""
        cloud = Cloud(sweep.scan.points[:, :3], name=f"{sweep.time_s:.1f} s")
        found = self.detector(cloud, floor=self.score)
        x, y, yaw = (float(value) for value in sweep.pose)
        tracks = self.tracker.update(in_world(found, Pose(sweep.time_s, x, y, yaw)), sweep.time_s)
        high = cloud.points[:, 2] - found.ground.height(cloud.points) > 0.3
        near = (np.abs(cloud.points[:, :2]) < REACH_M).all(1) & high
        points = cloud.points[near, :2]
        points = points[thinned(len(points), 12_000)].astype(np.float32) + np.array([x, y], np.float32)
        return Turn(points, (x, y), tuple(tracks))


driven = once(Drive)
"""The drive of a choice of controls, kept."""


def drawn(turns: list[Turn]) -> str:
    """The last of some sweeps from above with its tracks, and where each of them has been."""
    turn, shapes = turns[-1], []
    for track in turn.tracks:
        way = [one.box[:2] for past in turns for one in past.tracks if one.id == track.id]
        speed = float(np.hypot(*track.velocity[:2]))
        words = f"{track.name} {track.id}: {speed:.1f} m/s, score {track.score:.2f}"
        colour = TRACK_COLOURS[track.id % len(TRACK_COLOURS)]
        shapes.append(Shape(track.box, colour, words, 0.3, np.array(way), str(track.id)))
    alt = f"Sweep {len(turns)} of {SWEEPS}: {len(turn.tracks)} tracks"
    return f"<p class='r-note'>{alt}.</p>" + seen_from_above(
        turn.points, shapes, alt, REACH_M, sensor=turn.own
    )


def tracks_of(turn: Turn) -> str:
    """The tracks of a sweep as a table."""
    rows = [
        (
            f"{track.name} {track.id}",
            f"{float(np.hypot(*track.velocity[:2])):.1f} m/s",
            f"{track.deviation_m:.2f} m",
            f"{track.score:.2f}",
        )
        for track in turn.tracks
    ]
    return table(("track", "speed", "its place is known to", "score"), rows)


def side_by_side(cloud: Cloud, names: list[str], score: float) -> Iterator[str]:
    """Every bundled model and the hand-made detector on one scan, the second pass timed; a row at a time."""
    rows: list[tuple[str, ...]] = []
    ways = [(name, mirror) for name in names for mirror in (True, False)]
    head = ("model", "operator", "cars", "people", "cyclists", "time")
    for name, mirror in told(ways, len(ways) + 1, "model"):
        detector = Detector.open(name)
        detector.mirror = mirror
        detector(cloud, floor=score)
        found = detector(cloud, floor=score)
        counts = [str(found.names.count(kind)) for kind in ("Car", "Pedestrian", "Cyclist")]
        unit = detector.card.unit if detector.card is not None else "-"
        rows.append((name if mirror else f"{name}, quick", unit, *counts, f"{found.seconds['all']:.2f} s"))
        yield table(head, rows, names[-1])
    hand_made(cloud)
    began = time.perf_counter()
    simple = len(hand_made(cloud))
    rows.append(("hand-made", "none", str(simple), "-", "-", f"{time.perf_counter() - began:.2f} s"))
    yield table(head, rows, names[-1], "hand-made")


def operators_beside() -> Iterator[str]:
    """Every operator along as many voxels, with its time; a row at a time."""
    rows: list[tuple[str, ...]] = []
    count = len(UNITS) + len(PUBLISHED)
    for row in told(measured(WIDTH, TOKENS, repeats=2), count, "operator"):
        kind = "published" if row["operator"] in PUBLISHED else "core unit"
        rows.append(
            (
                row["operator"],
                kind,
                f"{row['parameters']:,}",
                f"{row['ms']:.0f} ms",
                f"{row['of_min_gru']:.1f}",
            )
        )
        yield table(("operator", "what", "parameters", "time", "of min_gru's"), rows, "min_gru")
