"""What the page computes, without a browser."""

import pytest


def test_a_drive_has_a_figure_a_sweep_and_names_its_tracks() -> None:
    pytest.importorskip("gradio")
    pytest.importorskip("plotly")
    from demos.pages.pointcloud_drive import SWEEPS, drawn, driven, side_by_side, tracks_of
    from vision.pointcloud.examples import generated

    drive = driven("vlp16", 3, "pointcloud-bev", 0.3)
    turns = drive.upto(4)
    assert len(turns) == 4
    assert len(drive.upto(2)) == 2
    shown, text = drawn(turns), tracks_of(turns[-1])
    assert f"Sweep 4 of {SWEEPS}: {len(turns[-1].tracks)} tracks" in shown
    assert all(f"{track.name} {track.id}" in text for track in turns[-1].tracks)
    cloud = next(generated(1, "vlp16", first=8)).cloud
    *_, text = side_by_side(cloud, ["pointcloud-bev"], 0.3)
    assert "pointcloud-bev, quick" in text
    assert "hand-made" in text
