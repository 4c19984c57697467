"""A drive past the sensor, sweep by sweep: tracks with their speed, and models side by side on one scan."""

import time
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from demos.first import once
from demos.markup import table
from demos.plots import template, thinned
from demos.theme import PALETTE
from vision.pointcloud.baselines import hand_made
from vision.pointcloud.boxes import corners_bev
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.poses import Pose, in_world
from vision.pointcloud.predict import Detector
from vision.pointcloud.synth.sequence import sequence
from vision.pointcloud.track import TrackConfig, Tracked, Tracker

SWEEPS = 8
FIRST = 1_700_000
"""Seeds of the drives: nothing is trained on them."""
REACH_M = 40.0


@dataclass(frozen=True)
class Turn:
    """One sweep of a drive in the world's frame."""

    points: np.ndarray
    """(n, 2) what stands above the ground, from above."""
    own: tuple[float, float]
    tracks: tuple[Tracked, ...]


@once
def driven(sensor: str, seed: int, weights: str, score: float) -> tuple[Turn, ...]:
    """Every sweep of a drive through detector and tracker, in one pass."""
    detector = Detector.open(weights)
    detector.mirror = False
    tracker, turns = Tracker(TrackConfig(hits=2)), []
    for sweep in sequence(FIRST + seed, sensor, SWEEPS, tilted=False):
        cloud = Cloud(sweep.scan.points[:, :3], name=f"{sweep.time_s:.1f} s")
        found = detector(cloud, floor=score)
        x, y, yaw = (float(value) for value in sweep.pose)
        tracks = tracker.update(in_world(found, Pose(sweep.time_s, x, y, yaw)), sweep.time_s)
        high = cloud.points[:, 2] - found.ground.height(cloud.points) > 0.3
        near = (np.abs(cloud.points[:, :2]) < REACH_M).all(1) & high
        points = cloud.points[near, :2]
        points = points[thinned(len(points), 6_000)].astype(np.float32) + np.array([x, y], np.float32)
        turns.append(Turn(points, (x, y), tuple(tracks)))
    return tuple(turns)


def drawn(turns: tuple[Turn, ...], number: int) -> go.Figure:
    """One sweep from above with its tracks, and where each of them has been."""
    number = int(np.clip(number, 1, len(turns))) - 1
    turn = turns[number]
    figure = go.Figure()
    figure.add_scattergl(
        x=turn.points[:, 0], y=turn.points[:, 1], mode="markers", hoverinfo="skip", showlegend=False,
        marker={"size": 2, "color": "#9aa2ab"},
    )  # fmt: skip
    for track in turn.tracks:
        colour = PALETTE[track.id % len(PALETTE)]
        square = corners_bev(track.box[None])[0]
        around = np.vstack([square, square[:1]])
        speed = float(np.hypot(*track.velocity[:2]))
        figure.add_scatter(
            x=around[:, 0], y=around[:, 1], mode="lines", line={"color": colour, "width": 2.4},
            text=f"{track.name} {track.id}<br>{speed:.1f} m/s", hoverinfo="text", showlegend=False,
        )  # fmt: skip
        way = [one.box[:2] for past in turns[: number + 1] for one in past.tracks if one.id == track.id]
        trail = np.array(way)
        figure.add_scatter(
            x=trail[:, 0], y=trail[:, 1], mode="lines", line={"color": colour, "width": 1.2, "dash": "dot"},
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    figure.add_scatter(
        x=[turn.own[0]], y=[turn.own[1]], mode="markers",
        marker={"symbol": "cross", "size": 9, "color": "#333333"},
        text=["the sensor"], hoverinfo="text", showlegend=False,
    )  # fmt: skip
    x, y = turn.own
    figure.update_layout(
        template=template(), height=430, hovermode="closest",
        title=f"Sweep {number + 1} of {len(turns)}: {len(turn.tracks)} tracks",
        xaxis={"range": [x - REACH_M, x + REACH_M], "title": "x (m)"},
        yaxis={"range": [y - REACH_M, y + REACH_M], "title": "y (m)", "scaleanchor": "x"},
    )  # fmt: skip
    return figure


def tracks_of(turns: tuple[Turn, ...], number: int) -> str:
    """The tracks of a sweep as a table."""
    turn = turns[int(np.clip(number, 1, len(turns))) - 1]
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


def side_by_side(cloud: Cloud, names: list[str], score: float) -> str:
    """Every bundled model and the hand-made detector on one scan, the second pass timed."""
    rows = []
    for name in names:
        detector = Detector.open(name)
        for mirror, words in ((True, ""), (False, ", quick")):
            detector.mirror = mirror
            detector(cloud, floor=score)
            found = detector(cloud, floor=score)
            counts = [str(found.names.count(kind)) for kind in ("Car", "Pedestrian", "Cyclist")]
            unit = detector.card.unit if detector.card is not None else "-"
            rows.append((f"{name}{words}", unit, *counts, f"{found.seconds['all']:.2f} s"))
    hand_made(cloud)
    began = time.perf_counter()
    simple = len(hand_made(cloud))
    rows.append(("hand-made", "none", str(simple), "-", "-", f"{time.perf_counter() - began:.2f} s"))
    return table(("model", "operator", "cars", "people", "cyclists", "time"), rows)
