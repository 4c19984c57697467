"""Figures of tracking beside those of motmetrics, where it is installed (extra `peers`).

The kits of nuScenes and Argoverse 2 are no dependency, not even for development: nuscenes-devkit 1.2 takes
numpy back below 2, and av2 0.3 brings eighteen packages, among them OpenCV and a test runner. Golden files of
their runs stand for them in test_golden.py: `nuscenes_nds` (nuscenes-devkit) and `av2_detection_a` (av2-api).
"""

import numpy as np
import pytest

from vision.pointcloud.protocols.tracking import TrackedFrame, clear, identity


def drive(seed: int) -> list[TrackedFrame]:
    """Objects that come and go, tracks that miss, invent and confuse them."""
    rng = np.random.default_rng(seed)
    names = np.arange(6)
    frames = []
    for _ in range(60):
        truth = np.flatnonzero(rng.random(6) < 0.85)
        if rng.random() < 0.15:  # two tracks change places
            a, b = rng.choice(6, 2, replace=False)
            names[[a, b]] = names[[b, a]]
        seen = truth[rng.random(len(truth)) < 0.8]
        tracks = np.concatenate([names[seen], np.flatnonzero(rng.random(3) < 0.1) + 6])
        similarity = rng.uniform(0, 0.3, (len(truth), len(tracks)))
        for column, number in enumerate(seen):
            similarity[truth == number, column] = rng.uniform(0.4, 1.0)
        frames.append(TrackedFrame(truth, tracks, similarity))
    return frames


@pytest.mark.parametrize("seed", range(4))
def test_mota_and_idf1_are_those_of_motmetrics(seed: int) -> None:
    motmetrics = pytest.importorskip("motmetrics")
    frames = drive(seed)
    book = motmetrics.MOTAccumulator(auto_id=True)
    for frame in frames:
        distance = np.where(frame.similarity >= 0.5, 1 - frame.similarity, np.nan)
        book.update(list(frame.truth), list(frame.tracks), distance)
    wanted = motmetrics.metrics.create().compute(
        book, metrics=["mota", "num_switches", "num_misses", "num_false_positives", "idf1"], name="x"
    )
    ours, who = clear(frames), identity(frames)
    assert ours["IDSW"] == wanted["num_switches"]["x"]
    assert ours["MOTA"] == pytest.approx(wanted["mota"]["x"], abs=1e-9)
    assert who["IDF1"] == pytest.approx(wanted["idf1"]["x"], abs=1e-9)
