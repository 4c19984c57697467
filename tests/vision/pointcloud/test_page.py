"""What the page computes, without a browser."""

import pytest

pytest.importorskip("gradio")
pytest.importorskip("plotly")


def test_a_drive_has_a_figure_a_sweep_and_names_its_tracks() -> None:
    from demos.pages.pointcloud_drive import SWEEPS, drawn, driven, side_by_side, tracks_of
    from vision.pointcloud.examples import generated

    turns = driven("vlp16", 3, "pointcloud-bev", 0.3)
    assert len(turns) == SWEEPS
    last = drawn(turns, SWEEPS)
    assert len(last.data) == 2 + 2 * len(turns[-1].tracks)  # points, sensor, a box and a trail each
    text = tracks_of(turns, SWEEPS)
    assert all(f"{track.name} {track.id}" in text for track in turns[-1].tracks)
    drawn(turns, 99)  # beyond the end is the end
    cloud = next(generated(1, "vlp16", first=8)).cloud
    text = side_by_side(cloud, ["pointcloud-bev"], 0.3)
    assert "pointcloud-bev, quick" in text
    assert "hand-made" in text
