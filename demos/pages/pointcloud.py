"""What is around me? Drop a scan or generate one: boxes in space and from above."""

from dataclasses import dataclass

import gradio as gr
import numpy as np
import plotly.graph_objects as go

from core.bundled import bundled
from core.errors import DataError
from core.files import write_text
from core.text import in_json
from demos.camera import fitted
from demos.first import once
from demos.headline import Headline
from demos.markup import Stat, stat_row, table
from demos.pages.pointcloud_drive import SWEEPS, drawn, driven, side_by_side, tracks_of
from demos.plots import template, thinned
from demos.theme import PALETTE
from demos.uploads import own_folder, said, uploaded
from vision.pointcloud.answers import EDGES, text_of, write_page
from vision.pointcloud.baselines import hand_made
from vision.pointcloud.boxes import corners_bev
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
FLOOR = 0.15
"""Least score that the slider reaches: the scan is looked at once, the slider only filters."""
REACH_M = 40.0


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
def looked_at(path: str | None, changed_ns: int, sensor: str, seed: int, weights: str) -> Seen:
    """The scan through the network, once for a choice of scan and weights."""
    if path is None:
        example = next(generated(1, sensor, first=seed))
        cars = [k for k, name in enumerate(example.truth.names) if name in ("Car", "Van")]
        cloud, truth = example.cloud, example.truth.boxes[cars]
    else:
        cloud, truth = read_as(path, Reading()), np.zeros((0, 7))
        if len(cloud) > MOST_POINTS:
            raise DataError(f"The scan has {len(cloud):,} points; this page takes {MOST_POINTS:,}.")
        if not len(cloud):
            raise DataError("The scan has no points.")
    found = detector(weights)(cloud, floor=FLOOR)
    return Seen(cloud, found, truth, len(hand_made(cloud)), told(facts_of(cloud)))


@once
def detector(weights: str) -> Detector:
    """A network, kept warm."""
    return Detector.open(weights)


def chosen(file: str | None, sensor: str, seed: float, weights: str) -> Seen:
    """The scan of the controls."""
    if file is None:
        return looked_at(None, 0, sensor, int(seed or 0), weights)
    path = uploaded(file)
    return looked_at(str(path), path.stat().st_mtime_ns, "", 0, weights)


def shown(seen: Seen, score: float, classes: list[str]) -> Boxes:
    """The boxes that pass the filters."""
    keep = [
        s >= score and name in classes for s, name in zip(seen.found.scores, seen.found.names, strict=True)
    ]
    return seen.found.having(np.array(keep, bool).reshape(-1))


@said
def show(
    file: str | None, sensor: str, seed: float, weights: str, score: float, classes: list[str]
) -> tuple[str, go.Figure, go.Figure, str]:
    """Stat row, scene, view from above and table of boxes."""
    seen = chosen(file, sensor, seed, weights)
    boxes = shown(seen, score, classes)
    return stat_row(stats(seen, boxes)), scene(seen, boxes), from_above(seen, boxes), listed(seen, boxes)


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


def scene(seen: Seen, boxes: Boxes) -> go.Figure:
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
        own = [box for box, kind in zip(boxes.boxes, boxes.names, strict=True) if kind == name]
        if own:
            figure.add_trace(frames(np.array(own), name, COLOURS[name]))
    near = points[np.abs(points[:, :2]).max(1) < 25]
    figure.update_layout(
        template=template(),
        height=430,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene=fitted(near if len(near) else points, np.array([1.0, 0.0])),
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


def from_above(seen: Seen, boxes: Boxes) -> go.Figure:
    """Points above the ground from above, boxes with what is in them, labels of generated scans."""
    cloud, frame = seen.cloud, seen.cloud.frame
    ours = to_ours(cloud.points, frame)
    height = ours[:, 2] - seen.found.ground.height(ours)
    near = np.abs(ours[:, :2]).max(1) < REACH_M
    above = cloud.points[(height > 0.2) & near]
    above = above[thinned(len(above), 12_000)].astype(np.float32)
    figure = go.Figure()
    figure.add_scattergl(
        x=above[:, 0], y=above[:, 1], mode="markers", hoverinfo="skip", showlegend=False,
        marker={"size": 2, "color": "#9aa2ab"},
    )  # fmt: skip
    for square in corners_bev(to_theirs(seen.truth, frame)):
        around = np.vstack([square, square[:1]])
        figure.add_scatter(
            x=around[:, 0], y=around[:, 1], mode="lines", line={"color": "#5b6673", "width": 1.2},
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    for k, square in enumerate(corners_bev(boxes.boxes)):
        around, box = np.vstack([square, square[:1]]), boxes.boxes[k]
        words = (
            f"{boxes.names[k]} {boxes.scores[k]:.2f}<br>{box[3]:.1f} x {box[4]:.1f} x {box[5]:.1f} m<br>"
            f"{boxes.points[k]} points"
        )
        figure.add_scatter(
            x=around[:, 0], y=around[:, 1], mode="lines", text=words, hoverinfo="text", showlegend=False,
            line={"color": COLOURS[boxes.names[k]], "width": 2.4},
        )  # fmt: skip
    figure.update_layout(
        template=template(), height=430, hovermode="closest", title="From above: hover over a box",
        xaxis={"range": [-REACH_M, REACH_M], "title": "x (m)"},
        yaxis={"range": [-REACH_M, REACH_M], "title": "y (m)", "scaleanchor": "x"},
    )  # fmt: skip
    return figure


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
    file: str | None, sensor: str, seed: float, weights: str, score: float, classes: list[str]
) -> list[str]:
    """The boxes as JSON, as KITTI text, and as a page with the scan."""
    seen = chosen(file, sensor, seed, weights)
    boxes = shown(seen, score, classes)
    folder = own_folder()
    write_text(folder / "boxes.json", in_json(boxes.as_dict(), 2) + "\n")
    write_text(folder / "boxes.txt", text_of(boxes, "kitti"))
    write_page(seen.cloud, boxes, folder / "scan.html")
    return [str(folder / name) for name in ("boxes.json", "boxes.txt", "scan.html")]


@said
def drive(sensor: str, seed: float, weights: str, score: float, sweep: float) -> tuple[go.Figure, str]:
    """One sweep of a drive with its tracks."""
    turns = driven(sensor, int(seed or 0), weights, round(float(score), 2))
    return drawn(turns, int(sweep)), tracks_of(turns, int(sweep))


@said
def models_beside(file: str | None, sensor: str, seed: float, weights: str, score: float) -> str:
    """Every model on the scan that is shown, with its time."""
    names = [row["name"] for row in bundled() if row["task"] == "pointcloud"]
    return side_by_side(chosen(file, sensor, seed, weights).cloud, names, float(score))


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
                    seed = gr.Number(value=7, precision=0, label="Number of the scan", minimum=0)
                    weights = gr.Dropdown(models, value=DEFAULT, label="Model")
                with gr.Accordion("Download the boxes", open=False):
                    save = gr.Button("Write JSON, KITTI text and a page")
                    files = gr.File(label="Boxes", file_count="multiple", interactive=False)
            with gr.Column(elem_classes="r-right"):
                figures = gr.HTML(elem_id="stats", padding=False)
                picture = gr.Plot(show_label=False, label="The scan in space", elem_id="scene")
                above = gr.Plot(show_label=False, label="The scan from above", elem_id="above")
                with gr.Accordion("All boxes, and the ground", open=False):
                    boxes = gr.HTML(elem_id="boxes")
                with gr.Accordion("A drive: tracks from sweep to sweep", open=False):
                    go_on = gr.Button("Drive")
                    sweep = gr.Slider(1, SWEEPS, value=SWEEPS, step=1, label="Sweep", elem_id="sweep")
                    driving = gr.Plot(show_label=False, label="The drive from above", elem_id="drive")
                    tracks = gr.HTML(elem_id="tracks")
                with gr.Accordion("Models side by side on this scan", open=False):
                    beside = gr.Button("Compare")
                    compared = gr.HTML(elem_id="compared")
        inputs = [file, sensor, seed, weights, score, classes]
        outputs = [figures, picture, above, boxes]
        page.load(show, inputs, outputs, api_visibility="private", show_progress="minimal")
        gr.on(
            [file.change, sensor.change, seed.change, weights.change, score.release, classes.change],
            show,
            inputs,
            outputs,
            api_name="detect",
            trigger_mode="always_last",
            show_progress="minimal",
            concurrency_id="pointcloud",
        )
        save.click(downloads, inputs, files, api_name="boxes")
        gr.on(
            [go_on.click, sweep.release],
            drive,
            [sensor, seed, weights, score, sweep],
            [driving, tracks],
            api_name="drive",
            trigger_mode="always_last",
            show_progress="minimal",
            concurrency_id="pointcloud",
        )
        beside.click(
            models_beside,
            [file, sensor, seed, weights, score],
            compared,
            api_name="compare",
            concurrency_id="pointcloud",
        )
    return page
