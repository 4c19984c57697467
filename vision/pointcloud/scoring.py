"""Label files against detection files by the protocols of published benchmarks, without any network."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError
from vision.pointcloud.formats.kitti import CAMERA, image_box, to_lidar
from vision.pointcloud.formats.labels import role, text_of
from vision.pointcloud.protocols import argoverse, kitti, nuscenes, overlap_ap, tracking

METRICS = ("kitti", "nuscenes", "waymo", "av2", "once", "tracking")
NUSCENES = {"Car": "car", "Pedestrian": "pedestrian", "Cyclist": "bicycle"}
LAST = 2**53
"""Largest number of a track."""
ENDINGS = (".labels.csv", ".label.txt", ".csv", ".txt")


@dataclass(frozen=True)
class BoxRows:
    """Boxes of one file."""

    boxes: np.ndarray
    """(N, 7)"""
    names: np.ndarray
    scores: np.ndarray
    points: np.ndarray
    """(N,) points inside; 1 where the file does not say."""
    ids: np.ndarray
    """(N,) track, -1 without."""
    velocity: np.ndarray
    """(N, 2) NaN without."""
    hard: np.ndarray


def read_rows(path: Path) -> BoxRows:
    """A table of boxes: category, sizes, place, yaw; perhaps score, num_interior_pts, id, vx, vy, hard.

    Raises:
        DataError: a column is missing, or a number is none.
    """
    try:
        table = list(csv.DictReader(text_of(path).splitlines()))
        boxes = [
            [float(row[f"t{axis}_m"]) for axis in "xyz"]
            + [float(row[f"{side}_m"]) for side in ("length", "width", "height")]
            + [float(row["yaw"])]
            for row in table
        ]

        def column(name: str, default: float) -> np.ndarray:
            return np.array([float(row[name]) if row.get(name) else default for row in table], float)

        found = BoxRows(
            np.array(boxes, float).reshape(-1, 7),
            np.array([row["category"] for row in table], dtype=object),
            column("score", 1.0),
            column("num_interior_pts", 1.0),
            column("id", -1.0),
            np.column_stack([column("vx", np.nan), column("vy", np.nan)]).reshape(-1, 2),
            column("hard", 0.0) > 0,
        )
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: a box needs category, sizes (*_m), place (t*_m) and yaw.") from error
    told = np.column_stack([found.boxes, found.scores, found.points, found.ids])
    if not np.isfinite(told).all() or (np.abs(found.ids) > LAST).any() or (found.boxes[:, 3:6] <= 0).any():
        raise DataError(f"{path}: a box has a number that is not finite, or a size that is not above 0.")
    return replace(found, ids=found.ids.astype(int))


def read_objects(path: Path, scored: bool) -> kitti.Objects:
    """KITTI's own text; an image box that is missing is worked out from the volume with the default camera.

    Raises:
        DataError: a line that is none.
    """
    rows = [line.split() for line in text_of(path).splitlines() if line.strip()]
    try:
        values = np.array([[float(word) for word in row[1:15]] for row in rows], float).reshape(-1, 14)
        score = np.array([float(row[15]) if scored else 0.0 for row in rows], float)
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: not KITTI's 15 words{' and a score' if scored else ''} a line.") from error
    if not (np.isfinite(values).all() and np.isfinite(score).all()):
        raise DataError(f"{path}: a number that is not finite.")
    names = np.array([row[0] for row in rows], dtype=object)
    empty = (values[:, 5] - values[:, 3] <= 1) | (values[:, 6] - values[:, 4] <= 1)
    for k in np.flatnonzero(empty & (names != "DontCare")):
        flat = image_box(to_lidar(values[k : k + 1, 7:14], CAMERA)[0], CAMERA)
        if flat is not None:  # without it the height in the image would decide that nothing counts
            values[k, 3:7] = flat[0]
    return kitti.Objects(
        names.astype(str) if len(names) else np.zeros(0, "<U1"),
        values[:, 3:7], values[:, 10:13], values[:, [9, 7, 8]], values[:, 13], values[:, 2],
        values[:, 0], values[:, 1], score if scored else None,
    )  # fmt: skip


def paired(truth: str | Path, found: str | Path, text: bool) -> list[tuple[str, Path, Path | None]]:
    """Files of two folders by their names without endings; a label file without detections found nothing.

    Raises:
        DataError: no folder, or no labels in it.
    """
    sides = []
    for folder in (Path(truth), Path(found)):
        if not folder.is_dir():
            raise DataError(f"{folder}: not a folder.")
        files = {}
        for path in sorted(folder.iterdir()):
            ending = next((end for end in ENDINGS if path.name.endswith(end)), None)
            if ending is not None and ending.endswith(".txt") == text and not path.name.endswith("calib.txt"):
                files[path.name.removesuffix(ending)] = path
        sides.append(files)
    if not sides[0]:
        raise DataError(f"{truth}: no {'KITTI text' if text else 'tables'} with labels.")
    stray = sorted(set(sides[1]) - set(sides[0]))
    if stray:
        raise DataError(f"{found}: {stray[0]} has detections and no labels ({len(stray)} such files).")
    return [(name, path, sides[1].get(name)) for name, path in sides[0].items()]


def score(truth: str | Path, found: str | Path, metric: str) -> dict[str, Any]:
    """Figures of a folder of detections against a folder of labels of the same names.

    Raises:
        ConfigError: no such metric.
        DataError: files that cannot be read or do not belong together.
    """
    if metric not in METRICS:
        raise ConfigError(f"no metric {metric!r}; there are {', '.join(METRICS)}.")
    files = paired(truth, found, metric == "kitti")
    if metric == "kitti":
        figures = kitti_figures(files)
    else:
        none = np.zeros(0)
        nothing = BoxRows(
            np.zeros((0, 7)), none.astype(object), none, none, none, np.zeros((0, 2)), none.astype(bool)
        )
        labels = [read_rows(path) for _, path, _ in files]
        boxes = [nothing if path is None else read_rows(path) for _, _, path in files]
        figures = {
            "nuscenes": nuscenes_figures, "waymo": waymo_figures, "av2": argoverse_figures,
            "once": once_figures, "tracking": tracking_figures,
        }[metric](labels, boxes)  # fmt: skip
    return {"n": len(files), "metric": metric, "model": figures, "protocol": PROTOCOLS[metric]}


PROTOCOLS = {
    "kitti": "AP in percent at 11 and 40 recalls, by class, difficulty and overlap set (strict, loose). "
    "Image boxes that are missing come from the volumes and the default camera.",
    "nuscenes": "Match by distance of centres .5, 1, 2, 4 m; ranges of the benchmark are not cut.",
    "waymo": "Overlap of volumes .7 / .5 / .5; level 1: over 5 points and not hard; from the definition.",
    "av2": "Distance in space .5, 1, 2, 4 m, within 150 m; region of interest not applied.",
    "once": "Overlap of volumes .7 / .3 / .5, heading within 90 degrees, 50 recalls; from the definition.",
    "tracking": "Cars; similarity is the overlap from above; MOTA and IDF1 at .5, HOTA over .05 to .95.",
}


def kitti_figures(files: Sequence[tuple[str, Path, Path | None]]) -> dict[str, Any]:
    """AP by metric, class and difficulty."""
    truths = [read_objects(path, False) for _, path, _ in files]
    none = kitti.Objects(
        np.zeros(0, "<U1"), np.zeros((0, 4)), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros(0),
        np.zeros(0), np.zeros(0), np.zeros(0),
    )  # fmt: skip
    founds = [none if path is None else read_objects(path, True) for _, _, path in files]
    report = kitti.kitti_ap(truths, founds)
    out: dict[str, Any] = {}
    for sampling in ("R40", "R11"):
        for metric, values in report[sampling].items():
            for c, kind in enumerate(kitti.CLASSES):
                for s, overlaps in enumerate(("strict", "loose")):
                    key = f"{kind} {metric} {sampling} {overlaps}"
                    out[key] = [round(float(value), 3) for value in values[c, :, s]]
    return out


def things_of(frames: Sequence[BoxRows]) -> nuscenes.Things:
    """All boxes of all files, under nuScenes' names."""
    names = [NUSCENES.get(role(str(name)), str(name)) for rows in frames for name in rows.names]
    boxes = np.concatenate([rows.boxes for rows in frames])
    return nuscenes.Things(
        np.repeat(np.arange(len(frames)), [len(rows.boxes) for rows in frames]),
        np.array(names, dtype=object), boxes[:, :3], boxes[:, 3:6], boxes[:, 6],
        np.concatenate([rows.velocity for rows in frames]),
        np.full(len(boxes), "", dtype=object), np.concatenate([rows.scores for rows in frames]),
    )  # fmt: skip


def nuscenes_figures(labels: Sequence[BoxRows], boxes: Sequence[BoxRows]) -> dict[str, Any]:
    """mAP, NDS and the errors, over the classes that the labels have; labels without points do not count."""
    labels = [picked(rows, rows.points > 0) for rows in labels]
    truth, found = things_of(labels), things_of(boxes)
    classes = [name for name in nuscenes.CLASSES if (truth.name == name).any()]
    if not classes:  # nothing to find
        return {"mAP": None, "NDS": None, **dict.fromkeys(nuscenes.ERRORS), "AP": {}}
    report = nuscenes.nuscenes_score(truth, found, classes)
    errors = dict(zip(nuscenes.ERRORS, np.atleast_1d(report["mean_errors"]).tolist(), strict=True))
    by_class = dict(zip(classes, np.asarray(report["ap"]).mean(1).tolist(), strict=True))
    return {"mAP": float(report["mean_ap"]), "NDS": float(report["nds"]), **errors, "AP": by_class}


def picked(rows: BoxRows, keep: np.ndarray) -> BoxRows:
    """The rows of a mask."""
    return BoxRows(*(getattr(rows, name)[keep] for name in rows.__dataclass_fields__))


def scenes_of(labels: Sequence[BoxRows], boxes: Sequence[BoxRows], kind: str) -> list[overlap_ap.JudgedScene]:
    """One class of every file."""
    scenes = []
    for truth, found in zip(labels, boxes, strict=True):
        mine = np.array([role(str(name)) == kind for name in truth.names], bool)
        own = np.array([role(str(name)) == kind for name in found.names], bool)
        scenes.append(
            overlap_ap.JudgedScene(
                truth.boxes[mine], truth.points[mine], truth.hard[mine], found.boxes[own], found.scores[own]
            )
        )
    return scenes


def waymo_figures(labels: Sequence[BoxRows], boxes: Sequence[BoxRows]) -> dict[str, Any]:
    """AP and APH by class and level, and their means over the classes that have truth."""
    rows = {kind: overlap_ap.waymo_score(scenes_of(labels, boxes, kind), kind) for kind in overlap_ap.WAYMO}
    return {**means_of(rows, ("AP_L1", "APH_L1", "AP_L2", "APH_L2")), **rows}


def once_figures(labels: Sequence[BoxRows], boxes: Sequence[BoxRows]) -> dict[str, Any]:
    """AP by class and range, and their means."""
    rows = {kind: overlap_ap.once_score(scenes_of(labels, boxes, kind), kind) for kind in overlap_ap.ONCE}
    return {**means_of(rows, tuple(overlap_ap.ONCE_RANGES)), **rows}


def means_of(rows: dict[str, dict[str, float | None]], names: Sequence[str]) -> dict[str, float | None]:
    """Means over classes that have truth."""
    out: dict[str, float | None] = {}
    for name in names:
        known = [value for row in rows.values() if (value := row[name]) is not None]
        out[f"m{name}"] = float(np.mean(known)) if known else None
    return out


def argoverse_figures(labels: Sequence[BoxRows], boxes: Sequence[BoxRows]) -> dict[str, Any]:
    """AP, errors and CDS by class of the labels, and their means."""
    kinds = sorted({str(name) for rows in labels for name in rows.names})
    if not kinds:  # nothing to find
        return dict.fromkeys(("mAP", "mATE", "mASE", "mAOE", "mCDS"))
    sides = []
    for frames, value in ((labels, "points"), (boxes, "scores")):
        every = np.concatenate([rows.boxes for rows in frames])
        names = [str(name) for rows in frames for name in rows.names]
        sides.append(
            argoverse.Cuboids(
                np.repeat(np.arange(len(frames)), [len(rows.boxes) for rows in frames]),
                np.array([kinds.index(name) if name in kinds else len(kinds) for name in names], int),
                every[:, :3], every[:, 3:6], every[:, 6],
                np.concatenate([getattr(rows, value) for rows in frames]),
            )
        )  # fmt: skip
    report = argoverse.argoverse_score(sides[0], sides[1], len(kinds))
    means = {f"m{name}": float(report[name].mean()) for name in ("AP", "ATE", "ASE", "AOE", "CDS")}
    by_class = {
        kind: {name: float(report[name][k]) for name in ("AP", "ATE", "ASE", "AOE", "CDS")}
        for k, kind in enumerate(kinds)
    }
    return {**means, **by_class}


def tracking_figures(labels: Sequence[BoxRows], boxes: Sequence[BoxRows]) -> dict[str, Any]:
    """MOTA, IDF1, HOTA of cars over files in the order of their names.

    Raises:
        DataError: boxes without a number of their track.
    """
    sides = []
    for frames, what in ((labels, "label"), (boxes, "detection")):
        rows = []
        for number, frame in enumerate(frames):
            cars = np.array([role(str(name)) == "Car" for name in frame.names], bool)
            if (frame.ids[cars] < 0).any():
                raise DataError(f"tracking needs a column id in every {what} file, 0 or more for each car.")
            rows += [
                [number, track, *box] for track, box in zip(frame.ids[cars], frame.boxes[cars], strict=True)
            ]
        sides.append(np.array(rows, float).reshape(-1, 9))
    frames = tracking.tracked_frames(sides[0], sides[1], len(labels))
    clear, same, higher = tracking.clear(frames), tracking.identity(frames), tracking.hota(frames)
    figures = {**clear, **same, **{name: float(np.mean(value)) for name, value in higher.items()}}
    return {name: round(float(value), 6) for name, value in figures.items()}
