"""What is around me? Drop a scan or generate one: boxes in space and from above."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np
import plotly.graph_objects as go

from core.bundled import bundled
from core.errors import DataError
from core.files import write_text
from core.text import in_json
from demos.answering import answers
from demos.camera import HEIGHT_PX, WIDE_PX, WIDTH, fitted
from demos.first import once
from demos.headline import Headline
from demos.markup import Stat, stat_row, table
from demos.pages.pointcloud_drive import (
    STEP_S,
    SWEEPS,
    TOKENS,
    drawn,
    driven,
    operators_beside,
    side_by_side,
    tracks_of,
)
from demos.plots import template, thinned
from demos.progress import stands
from demos.sections.pointcloud_above import COLOURS as ABOVE
from demos.sections.pointcloud_above import Shape, seen_from_above
from demos.theme import PALETTE, sheet
from demos.uploads import own_folder, said, uploaded
from vision.pointcloud.answers import EDGES, text_of, write_page
from vision.pointcloud.baselines import hand_made
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.examples import generated
from vision.pointcloud.formats.kitti import corners
from vision.pointcloud.predict import BASELINE, DEFAULT, NAMES, Boxes, Detector, to_ours, to_theirs
from vision.pointcloud.reading import Reading, read_as, told
from vision.pointcloud.reading import about as facts_of

HEADLINE = Headline(
    weights="pointcloud-tiny",
    figure="recall_real",
    shown="{:.0%} of cars found in real scans",
    against="recall_real_hand_made",
    note="hand-made detector: {:.0%}, trained on generated scans only",
)
SENSORS = ("hdl64", "av2", "hdl32", "vlp16", "rings128")
COLOURS: dict[str, str] = dict(zip(NAMES, ("#1d9a84", PALETTE[1], PALETTE[2]), strict=True))
MOST_POINTS = 2_000_000
DENSITIES = {"all rings": 1, "every second ring": 2, "every fourth ring": 4}
FLOOR = 0.15
"""Least score that the slider reaches: the scan is looked at once, the slider only filters."""
REACH_M = 40.0
AROUND_M = 25.0
"""Half the edge of what is seen in space."""
STEEP = 0.7
"""Angle of the view below the horizon, rad: cars stand beside each other, not behind."""


@dataclass(frozen=True)
class Seen:
    """A scan, every box above the floor, and what the hand-made detector says."""

    cloud: Cloud
    found: Boxes
    truth: np.ndarray
    """(M, 7) labels of generated scans."""
    simple: int
    facts: list[str]


@once
def looked_at(path: str | None, changed_ns: int, sensor: str, seed: int, weights: str, density: str) -> Seen:
    """The scan through the network, once for a choice of scan and weights."""
    stands(0.1, "the scan")
    if path is None:
        example = next(generated(1, sensor, first=seed))
        cars = [k for k, name in enumerate(example.truth.names) if name in ("Car", "Van")]
        cloud, truth = thinner(example.cloud, DENSITIES[density]), example.truth.boxes[cars]
    else:
        cloud, truth = read_as(path, Reading()), np.zeros((0, 7))
        if len(cloud) > MOST_POINTS:
            raise DataError(f"The scan has {len(cloud):,} points; this page takes {MOST_POINTS:,}.")
        if not len(cloud):
            raise DataError("The scan has no points.")
    stands(0.4, "the network")
    found = detector(weights)(cloud, floor=FLOOR)
    return Seen(cloud, found, truth, len(hand_made(cloud)), told(facts_of(cloud)))


def thinner(cloud: Cloud, every: int) -> Cloud:
    """A scan of a sensor with fewer rings: each n-th of them."""
    if cloud.ring is None or every == 1:
        return cloud
    keep = cloud.ring % every == 0
    intensity = None if cloud.intensity is None else cloud.intensity[keep]
    return replace(cloud, points=cloud.points[keep], intensity=intensity, ring=cloud.ring[keep])


@once
def detector(weights: str) -> Detector:
    """A network, kept warm."""
    return Detector.open(weights)


def chosen(file: str | None, sensor: str, seed: float, weights: str, density: str) -> Seen:
    """The scan of the controls."""
    if file is None:
        return looked_at(None, 0, sensor, int(seed or 0), weights, density)
    path = uploaded(file)
    return looked_at(str(path), path.stat().st_mtime_ns, "", 0, weights, "")


def shown(seen: Seen, score: float, classes: list[str]) -> Boxes:
    """The boxes that pass the filters."""
    keep = [
        s >= score and name in classes for s, name in zip(seen.found.scores, seen.found.names, strict=True)
    ]
    return seen.found.having(np.array(keep, bool).reshape(-1))


@said
def show(
    file: str | None,
    sensor: str,
    seed: float,
    weights: str,
    score: float,
    classes: list[str],
    density: str = "all rings",
    window_px: float = WIDE_PX,
) -> tuple[str, go.Figure, str, str]:
    """Stat row, scene, view from above and table of boxes."""
    seen = chosen(file, sensor, seed, weights, density)
    boxes = shown(seen, score, classes)
    return (
        stat_row(stats(seen, boxes)),
        scene(seen, boxes, window_px),
        from_above(seen, boxes),
        listed(seen, boxes),
    )


def stats(seen: Seen, boxes: Boxes) -> list[Stat]:
    """What was found, beside the hand-made detector, and what it cost."""
    counts = {name: boxes.names.count(name) for name in NAMES}
    return [
        Stat(str(counts["Car"]), "cars", ours=True, colour=COLOURS["Car"]),
        Stat(
            str(counts["Pedestrian"] + counts["Cyclist"]), "people and cyclists", colour=COLOURS["Pedestrian"]
        ),
        Stat(str(seen.simple), "cars of the hand-made detector"),
        Stat(f"{len(seen.cloud):,}", "points"),
        Stat(f"{seen.found.seconds['all']:.2f} s", "for the scan"),
    ]


def scene(seen: Seen, boxes: Boxes, window_px: float = WIDE_PX) -> go.Figure:
    """Points coloured by height above ground, and boxes as frames."""
    points = seen.cloud.points[thinned(len(seen.cloud))].astype(np.float32)
    height = np.clip(points[:, 2] - seen.found.ground.height(to_ours(points, seen.cloud.frame)), -0.2, 3.0)
    x, y, z = points.T
    figure = go.Figure()
    figure.add_scatter3d(
        x=x, y=y, z=z, mode="markers", hoverinfo="skip", showlegend=False,
        marker={"size": 1.3, "color": height.astype(np.float32), "colorscale": "Cividis"},
    )  # fmt: skip
    for name in NAMES:
        own = [
            box
            for box, kind in zip(boxes.boxes, boxes.names, strict=True)
            if kind == name and np.abs(box[:2]).max() < AROUND_M - 2
        ]
        if own:
            figure.add_trace(frames(np.array(own), name, COLOURS[name]))
    near = points[np.abs(points[:, :2]).max(1) < AROUND_M]
    figure.update_layout(
        template=template(),
        height=HEIGHT_PX,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene=fitted(near if len(near) else points, np.array([1.0, 0.0]), window_px=window_px, steep=STEEP),
        legend={"orientation": "h", "y": 0, "x": 0, "xanchor": "left", "yanchor": "bottom"},
        uirevision="keep the view",
    )
    figure.update_scenes(xaxis_title="x (m)", yaxis_title="y (m)", zaxis_title="z (m)")
    return figure


def frames(boxes: np.ndarray, name: str, colour: str) -> go.Scatter3d:
    """Edges of boxes as one line with gaps."""
    rows = []
    for box in boxes:
        eight = corners(box)
        for a, b in EDGES:
            rows += [eight[a], eight[b], np.full(3, np.nan)]
    x, y, z = np.array(rows, np.float32).T
    return go.Scatter3d(
        x=x, y=y, z=z, mode="lines", name=name, line={"color": colour, "width": 5}, hoverinfo="name"
    )


def from_above(seen: Seen, boxes: Boxes) -> str:
    """What stands above the ground from above, boxes that say what is in them, labels of generated scans."""
    cloud, frame = seen.cloud, seen.cloud.frame
    ours = to_ours(cloud.points, frame)
    high = ours[:, 2] - seen.found.ground.height(ours) > 0.2
    shapes = [Shape(box, "var(--r-ink)", width=0.14) for box in to_theirs(seen.truth, frame)]
    for box, name, score, points in zip(boxes.boxes, boxes.names, boxes.scores, boxes.points, strict=True):
        words = (
            f"{name}, score {score:.2f}: {box[3]:.1f} x {box[4]:.1f} x {box[5]:.1f} m, {points} points, "
            f"{float(np.hypot(box[0], box[1])):.1f} m away"
        )
        shapes.append(Shape(box, ABOVE[name], words, 0.3))
    alt = f"{len(boxes)} boxes over {len(cloud):,} points, from above, {REACH_M:.0f} m around the sensor"
    labels = "; labels of the generator in thin lines" if len(seen.truth) else ""
    return f"<p class='r-note'>{alt}{labels}.</p>" + seen_from_above(cloud.points[high], shapes, alt, REACH_M)


def listed(seen: Seen, boxes: Boxes) -> str:
    """The boxes as a table, and what the ground says."""
    rows = [
        (
            name,
            f"{score:.2f}",
            f"{float(np.hypot(box[0], box[1])):.1f} m",
            f"{box[3]:.1f} x {box[4]:.1f} x {box[5]:.1f} m",
            str(int(points)),
        )
        for name, score, box, points in zip(boxes.names, boxes.scores, boxes.boxes, boxes.points, strict=True)
    ]
    ground = "<br>".join(line.strip() for line in seen.facts[1:])
    return f"<p class='r-soft'>{ground}</p>" + table(("what", "score", "away", "size", "points"), rows)


@said
def downloads(
    file: str | None,
    sensor: str,
    seed: float,
    weights: str,
    score: float,
    classes: list[str],
    density: str = "all rings",
) -> list[str]:
    """The boxes as JSON, as KITTI text, and as a page with the scan."""
    seen = chosen(file, sensor, seed, weights, density)
    boxes = shown(seen, score, classes)
    folder = own_folder()
    write_text(folder / "boxes.json", in_json(boxes.as_dict(), 2) + "\n")
    write_text(folder / "boxes.txt", text_of(boxes, "kitti"))
    write_page(seen.cloud, boxes, folder / "scan.html")
    return [str(folder / name) for name in ("boxes.json", "boxes.txt", "scan.html")]


@said
def drive(sensor: str, seed: float, weights: str, score: float, sweep: float) -> tuple[str, str]:
    """One sweep of a drive with its tracks."""
    turns = driven(sensor, int(seed or 0), weights, round(float(score), 2)).upto(int(sweep))
    return drawn(turns), tracks_of(turns[-1])


@said
def play(sensor: str, seed: float, weights: str, score: float) -> Iterator[tuple[Any, str, str]]:
    """A drive from its first sweep to its last."""
    whole = driven(sensor, int(seed or 0), weights, round(float(score), 2))
    for sweep in range(1, SWEEPS + 1):
        turns = whole.upto(sweep)
        yield sweep, drawn(turns), tracks_of(turns[-1])
        time.sleep(STEP_S)


@said
def models_beside(
    file: str | None, sensor: str, seed: float, weights: str, score: float, density: str
) -> Iterator[str]:
    """Every model on the scan that is shown, with its time."""
    names = [row["name"] for row in bundled() if row["task"] == "pointcloud"]
    yield from side_by_side(chosen(file, sensor, seed, weights, density).cloud, names, float(score))


@said
def operators() -> Iterator[str]:
    """Every operator along as many voxels, with its time."""
    yield from operators_beside()


def build() -> gr.Blocks:
    """The page."""
    models = [row["name"] for row in bundled() if row["task"] == "pointcloud"] or [DEFAULT, BASELINE]
    with gr.Blocks(title="Recurra: point cloud", analytics_enabled=False) as page:
        gr.HTML(
            "<h1>What is around me?</h1><p class='r-lead'>Generate a LiDAR scan or drop one (KITTI, nuScenes "
            "bin, PCD, PLY, npz, CSV, Parquet): cars, people and cyclists in it, whatever the sensor.</p>",
            padding=False,
        )
        with gr.Row():
            with gr.Column(elem_classes="r-left"):
                sensor = gr.Dropdown(list(SENSORS), value=SENSORS[0], label="Sensor of a generated scan")
                file = gr.File(label="Or your own scan", elem_id="scan", type="filepath", height=120)
                score = gr.Slider(FLOOR, 0.9, value=0.35, step=0.01, label="Least score")
                classes = gr.CheckboxGroup(list(NAMES), value=list(NAMES), label="Show")
                with gr.Accordion("More settings", open=False):
                    density = gr.Dropdown(list(DENSITIES), value="all rings", label="Density")
                    seed = gr.Number(value=7, precision=0, label="Number of the scan", minimum=0)
                    weights = gr.Dropdown(models, value=DEFAULT, label="Model")
                with gr.Accordion("Download the boxes", open=False):
                    save = gr.Button("Write JSON, KITTI text and a page")
                    files = gr.File(label="Boxes", file_count="multiple", interactive=False)
                window = gr.Number(WIDE_PX, visible=False, label="Width of the window")
            with gr.Column(elem_classes="r-right"):
                figures = gr.HTML(elem_id="stats", padding=False)
                picture = gr.Plot(show_label=False, label="The scan in space", elem_id="scene")
                above = gr.HTML(elem_id="above", js_on_load=sheet("pick.js"))
                with gr.Accordion("All boxes, and the ground", open=False):
                    boxes = gr.HTML(elem_id="boxes")
                with gr.Accordion("A drive: tracks from sweep to sweep", open=False):
                    with gr.Row():
                        go_on = gr.Button("Play", variant="primary", min_width=80)
                        halt = gr.Button("Stop", min_width=60)
                    sweep = gr.Slider(1, SWEEPS, value=SWEEPS, step=1, label="Sweep", elem_id="sweep")
                    driving = gr.HTML(elem_id="drive", js_on_load=sheet("pick.js"))
                    tracks = gr.HTML(elem_id="tracks")
                with gr.Accordion("Models and operators side by side", open=False):
                    with gr.Row():
                        beside = gr.Button("Models on this scan", variant="primary", min_width=80)
                        along = gr.Button(f"Operators on {TOKENS:,} voxels", min_width=80)
                        enough = gr.Button("Stop", min_width=60)
                    compared = gr.HTML(elem_id="compared")
                    timed = gr.HTML(elem_id="timed")
        scan = [file, sensor, seed, weights, score, classes, density]
        inputs = [*scan, window]
        outputs = [figures, picture, above, boxes]
        answers(
            page,
            show,
            inputs,
            outputs,
            [
                file.change,
                sensor.change,
                seed.change,
                weights.change,
                score.release,
                classes.change,
                density.change,
            ],
            word="pointcloud",
            name="detect",
            js=WIDTH,
        )
        save.click(downloads, scan, files, api_name="boxes", concurrency_id="pointcloud")
        sweep.release(
            drive,
            [sensor, seed, weights, score, sweep],
            [driving, tracks],
            api_name="drive",
            trigger_mode="always_last",
            show_progress="minimal",
            concurrency_id="pointcloud drive",
        )
        playing = go_on.click(
            play,
            [sensor, seed, weights, score],
            [sweep, driving, tracks],
            api_name="play",
            show_progress_on=driving,
            concurrency_id="pointcloud drive",
        )
        comparing = beside.click(
            models_beside,
            [file, sensor, seed, weights, score, density],
            compared,
            api_name="compare",
            concurrency_id="pointcloud long",
        )
        timing = along.click(operators, None, timed, api_name="operators", concurrency_id="pointcloud long")
        halt.click(None, cancels=[playing], api_visibility="private")
        enough.click(None, cancels=[comparing, timing], api_visibility="private")
    return page
