"""Labelled scans of a folder, in the layouts that `evaluate` reads."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.errors import ConfigError, DataError
from vision.pointcloud.cloud import Cloud
from vision.pointcloud.data import SUFFIXES, read_cloud
from vision.pointcloud.formats.kitti import HEIGHT, WIDTH, Camera, read_calibration
from vision.pointcloud.formats.labels import Truth, read_json_labels, read_kitti_labels, read_table_labels
from vision.pointcloud.formats.nuscenes_tables import MAIN, read_tabled, tables_of

FORMATS = ("kitti", "av2", "nuscenes", "labels", "synthetic")
IMAGE_SIZES = {"000000": (1224, 370), "000006": (1238, 374), "000015": (1238, 374), "000076": (1238, 374)}
"""Width and height of KITTI training images that differ from most, where no image lies beside the scan."""
BESIDE = ("label_2", "calib", "image_2", "planes", "ImageSets", "calibration", "map")
"""Folders of the public layouts that hold no scans."""


@dataclass(frozen=True)
class Example:
    """One labelled scan, in the axes of its file."""

    name: str
    cloud: Cloud
    truth: Truth
    camera: Camera | None = None
    """KITTI: points, labels and detections are cut to what this camera sees."""


def find_examples(folder: str | Path, format: str) -> tuple[list[Path], int]:
    """Scans with labels in a folder, and how many have none.

    Raises:
        ConfigError: no such format.
        DataError: no scan with labels.
    """
    if format not in FORMATS:
        raise ConfigError(f"no format {format!r}; there are {', '.join(FORMATS)}.")
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder.")
    scans = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")
        and is_scan(path)
    ]
    labelled = [path for path in scans if labels_of(path, format) is not None]
    if not labelled:
        raise DataError(f"{folder}: no scan with {format} labels beside it ({len(scans)} scans).")
    return labelled, len(scans) - len(labelled)


def is_scan(path: Path) -> bool:
    """Whether a file is a scan by its name, and no label, calibration or table of boxes."""
    name = path.name
    other = (".labels.csv", ".label.txt", ".calib.txt")
    if name.endswith(other) or path.parent.name in BESIDE:
        return False
    return path.stem not in ("annotations", "city_SE3_egovehicle", "egovehicle_SE3_sensor")


def stem(path: Path) -> str:
    """The name without the endings of a scan."""
    return path.name.removesuffix(".pcd.bin") if path.name.endswith(".pcd.bin") else path.stem


def labels_of(path: Path, format: str) -> Path | None:
    """The label file of a scan."""
    name, folder = stem(path), path.parent
    if format == "kitti":
        choices = [folder / f"{name}.label.txt", folder.parent / "label_2" / f"{name}.txt"]
    elif format == "nuscenes":
        choices = [folder / f"{name}.labels.json", *filter(None, [tables_of(path)])]
    elif format == "av2":
        choices = [folder / f"{name}.labels.csv", folder.parent.parent / "annotations.feather"]
    else:
        choices = [folder / f"{name}.labels.csv", folder / f"{name}.labels.json"]
    return next((choice for choice in choices if choice.is_file()), None)


def read_example(path: Path, format: str) -> Example:
    """A scan with its labels.

    Raises:
        DataError: a file is damaged or missing.
    """
    labels = labels_of(path, format)
    if labels is None:
        raise DataError(f"{path}: no labels beside it.")
    cloud = read_cloud(path)
    if format == "kitti":
        cloud = replace(cloud, frame="xyz")
        name = stem(path)
        choices = [path.parent / f"{name}.calib.txt", path.parent.parent / "calib" / f"{name}.txt"]
        calibration = next((choice for choice in choices if choice.is_file()), choices[0])
        width, height = image_size(path, name)
        camera = read_calibration(calibration, width, height)
        return Example(name, cloud, read_kitti_labels(labels, camera), camera)
    if labels.name == MAIN:
        return Example(stem(path), cloud, read_tabled(labels, path))
    if labels.suffix == ".json":
        truth = read_json_labels(labels)
        return Example(stem(path), cloud, truth)
    if labels.suffix == ".feather":
        return Example(stem(path), cloud, read_annotations(labels, stem(path)))
    return Example(stem(path), cloud, read_table_labels(labels))


def image_size(path: Path, name: str) -> tuple[int, int]:
    """Width and height of the image of a KITTI scan: from the image, from the list, else 1242 x 375."""
    image = path.parent.parent / "image_2" / f"{name}.png"
    if image.is_file():
        head = image.read_bytes()[:24]
        if len(head) == 24 and head[1:4] == b"PNG":
            return struct.unpack(">II", head[16:24])
    return IMAGE_SIZES.get(name, (WIDTH, HEIGHT))


def read_annotations(path: Path, stamp: str) -> Truth:
    """Boxes of one sweep from the annotations of an Argoverse 2 log.

    Raises:
        DataError: a damaged file, or a number that is none.
    """
    import math

    from pyarrow import ArrowException, feather

    try:
        table = feather.read_table(path).to_pydict()
        rows = [k for k, value in enumerate(table["timestamp_ns"]) if str(value) == stamp]
        boxes = []
        for k in rows:
            w, x, y, z = (float(table[f"q{part}"][k]) for part in "wxyz")
            yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
            centre = [float(table[f"t{axis}_m"][k]) for axis in "xyz"]
            boxes.append(
                [*centre, *(float(table[f"{side}_m"][k]) for side in ("length", "width", "height")), yaw]
            )
        names = tuple(str(table["category"][k]) for k in rows)
    except (ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged, or no annotations of Argoverse 2.") from error
    found = np.array(boxes, np.float64).reshape(-1, 7)
    if not np.isfinite(found).all():
        raise DataError(f"{path}: a number of a box of {stamp} is not finite.")
    return Truth(found, names)


def generated(count: int, sensor: str, front: bool = False, first: int = 0) -> Iterator[Example]:
    """Generated scans of seeds that nothing is trained on; `front` cuts them to the default camera."""
    from vision.pointcloud.crops import FIRST_TEST
    from vision.pointcloud.formats.kitti import CAMERA
    from vision.pointcloud.synth.scan import simulate

    for number in range(count):
        scan = simulate(FIRST_TEST + first + number, sensor)
        names = tuple(scan.names())
        cloud = Cloud(
            scan.points[:, :3], scan.points[:, 3], scan.ring, name=f"{sensor}-{number:04d}", format="made"
        )
        occluded = np.where(scan.visible > 0.85, 0, np.where(scan.visible > 0.5, 1, 2))
        truth = Truth(scan.boxes.astype(np.float64), names, None, occluded, np.zeros(len(names)))
        yield Example(cloud.name, cloud, truth, CAMERA if front else None)
