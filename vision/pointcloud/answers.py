"""Boxes as files: JSON, JSON lines, KITTI text, CSV, PLY frames, a picture from above, a page in 3D."""

from pathlib import Path

import numpy as np

from core.errors import ConfigError
from core.files import whole_file, write_text
from core.text import in_json
from vision.pointcloud.boxes import corners_bev
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.formats.kitti import CAMERA, Camera, corners, image_box, kitti_label, to_label
from vision.pointcloud.predict import Boxes

FORMATS = {"json": ".json", "jsonl": ".jsonl", "kitti": ".txt", "csv": ".csv", "ply": ".ply"}
COLOURS = {"Car": "#c0392b", "Pedestrian": "#1e7e34", "Cyclist": "#1f5fa8"}
EDGES = ((0, 1), (0, 2), (0, 4), (1, 3), (1, 5), (2, 3), (2, 6), (3, 7), (4, 5), (4, 6), (5, 7), (6, 7))
DRAWN = 25_000
"""Most points of a picture or a page."""


def text_of(found: Boxes, format: str, camera: Camera | None = None) -> str:
    """Boxes in a format of `FORMATS`.

    Raises:
        ConfigError: no such format.
    """
    match format:
        case "json":
            return in_json(found.as_dict(), 2) + "\n"
        case "jsonl":
            return in_json(found.as_dict()) + "\n"
        case "kitti":
            return "".join(kitti_lines(found, camera or CAMERA))
        case "csv":
            return csv_of(found)
        case "ply":
            return ply_of(found)
    raise ConfigError(f"no format {format!r}; there are {', '.join(FORMATS)}.")


def kitti_lines(found: Boxes, camera: Camera) -> list[str]:
    """KITTI result lines; what the camera does not see gets an image box of zeros."""
    lines = []
    for box, name, score in zip(found.boxes, found.names, found.scores, strict=True):
        if image_box(box, camera) is not None:
            lines.append(f"{kitti_label(box, name, camera, 0, float(score))}\n")
            continue
        h, w, length, x, y, z, turn = to_label(box[None], camera)[0]
        place = f"{h:.2f} {w:.2f} {length:.2f} {x:.2f} {y:.2f} {z:.2f} {turn:.4f} {score:.4f}"
        lines.append(f"{name} -1 -1 -10 0.00 0.00 0.00 0.00 {place}\n")
    return lines


def csv_of(found: Boxes) -> str:
    """A table in the columns of the label files, with a score."""
    lines = ["category,length_m,width_m,height_m,tx_m,ty_m,tz_m,yaw,num_interior_pts,score"]
    for box, name, score, points in zip(found.boxes, found.names, found.scores, found.points, strict=True):
        x, y, z, length, width, height, yaw = (f"{value:.4f}" for value in box)
        lines.append(f"{name},{length},{width},{height},{x},{y},{z},{yaw},{points},{score:.4f}")
    return "\n".join(lines) + "\n"


def ply_of(found: Boxes) -> str:
    """Wire frames: eight corners and twelve edges a box."""
    points = np.concatenate([corners(box) for box in found.boxes]) if len(found) else np.zeros((0, 3))
    edges = [(8 * k + a, 8 * k + b) for k in range(len(found)) for a, b in EDGES]
    head = [
        "ply", "format ascii 1.0", f"element vertex {len(points)}",
        "property double x", "property double y", "property double z",
        f"element edge {len(edges)}", "property int vertex1", "property int vertex2", "end_header",
    ]  # fmt: skip
    rows = [f"{x:.4f} {y:.4f} {z:.4f}" for x, y, z in points] + [f"{a} {b}" for a, b in edges]
    return "\n".join(head + rows) + "\n"


def some_points(cloud: Cloud, most: int = DRAWN) -> np.ndarray:
    """At most so many points (n, 3), evenly chosen."""
    step = max(1, -(-len(cloud) // most))
    return cloud.points[::step]


def draw_above(cloud: Cloud, found: Boxes, reach_m: float = 40.0, truth: np.ndarray | None = None):  # noqa: ANN201
    """A figure of points and boxes from above; truth (M, 7) in black."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 8), dpi=100)
    axes = figure.add_axes((0.06, 0.05, 0.92, 0.92))
    points = some_points(cloud)
    height = points[:, 2] - found.ground.height(points)
    axes.scatter(points[:, 0], points[:, 1], s=0.6, c=np.clip(height, 0, 3), cmap="viridis", linewidths=0)
    for square in corners_bev(cloud.local(truth)) if truth is not None else ():
        axes.plot(*np.vstack([square, square[:1]]).T, color="black", lw=2.2)
    for square, name in zip(corners_bev(cloud.local(found.boxes)), found.names, strict=True):
        axes.plot(*np.vstack([square, square[:1]]).T, color=COLOURS[name], lw=1.4)
        nose = square[[0, 3]].mean(0)
        axes.plot(*np.vstack([square.mean(0), nose]).T, color=COLOURS[name], lw=1)
    axes.set_xlim(-reach_m, reach_m)
    axes.set_ylim(-reach_m, reach_m)
    axes.set_aspect("equal")
    axes.set_xlabel("x forward, m")
    axes.set_ylabel("y left, m")
    return figure


def write_picture(cloud: Cloud, found: Boxes, path: str | Path) -> None:
    """A PNG from above."""
    with whole_file(path) as part:
        draw_above(cloud, found).savefig(part, format="png")


def figure_3d(cloud: Cloud, found: Boxes):  # noqa: ANN201
    """A plotly figure of points and boxes that can be turned."""
    import plotly.graph_objects as go

    points = some_points(cloud).astype(np.float32)
    height = points[:, 2] - found.ground.height(points)
    figure = go.Figure(
        go.Scatter3d(
            x=points[:, 0], y=points[:, 1], z=points[:, 2], mode="markers", hoverinfo="skip",
            showlegend=False,
            marker={"size": 1.2, "color": np.clip(height, 0, 3).astype(np.float32), "colorscale": "Viridis"},
        )
    )  # fmt: skip
    for name in dict.fromkeys(found.names):
        xyz: list[list[float | None]] = [[], [], []]
        for box, own in zip(cloud.local(found.boxes), found.names, strict=True):
            if own == name:
                points8 = corners(box)
                for a, b in EDGES:
                    for axis in range(3):
                        xyz[axis] += [float(points8[a, axis]), float(points8[b, axis]), None]
        figure.add_trace(
            go.Scatter3d(
                x=xyz[0],
                y=xyz[1],
                z=xyz[2],
                mode="lines",
                name=name,
                line={"color": COLOURS[name], "width": 4},
            )
        )
    figure.update_layout(
        scene={"aspectmode": "data", "xaxis_title": "x", "yaxis_title": "y", "zaxis_title": "z"},
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        legend={"orientation": "h"},
    )
    return figure


def write_page(cloud: Cloud, found: Boxes, path: str | Path) -> None:
    """An HTML page with the scan and its boxes, which needs no network."""
    write_text(path, figure_3d(cloud, found).to_html(include_plotlyjs=True, full_html=True))
