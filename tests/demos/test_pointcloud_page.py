"""The point cloud page as a person uses it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vision.pointcloud.examples import generated
from vision.pointcloud.predict import Detector

pytestmark = pytest.mark.browser


def stats(page: Any) -> Any:
    return page.locator("#stats .r-stat")


def test_the_page_opens_with_what_python_finds(
    page: Any, served: Callable[..., str], sound: Callable[[Any], None]
) -> None:
    from playwright.sync_api import expect

    found = Detector.open()(next(generated(1, "hdl64", first=7)).cloud, floor=0.35)
    page.goto(served("pointcloud"))
    expect(stats(page).first).to_have_text(f"cars{found.names.count('Car')}")
    expect(page.locator("#scene canvas").first).to_be_visible()
    page.get_by_label("Car", exact=True).uncheck()
    expect(stats(page).first).to_have_text("cars0")
    sound(page)


def test_an_uploaded_scan_is_read_and_a_wrong_one_is_a_sentence(
    page: Any, served: Callable[..., str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    scan = next(generated(1, "vlp16", first=8)).cloud.points
    np.save(tmp_path / "scan.npy", scan)
    (tmp_path / "junk.pcd").write_bytes(b"VERSION .7\nFIELDS x y\nDATA binary\n")
    page.goto(served("pointcloud"))
    expect(stats(page).first).to_be_visible()
    page.locator("#scan input[type=file]").set_input_files(tmp_path / "scan.npy")
    expect(stats(page).nth(3)).to_have_text(f"points{len(scan):,}")
    page.get_by_label("Clear").first.click()
    page.locator("#scan input[type=file]").set_input_files(tmp_path / "junk.pcd")
    expect(page.get_by_text("has no points")).to_be_visible()


def test_a_drive_is_followed_and_models_stand_side_by_side(
    page: Any, served: Callable[..., str], sound: Callable[[Any], None]
) -> None:
    from playwright.sync_api import expect

    page.goto(served("pointcloud"))
    expect(stats(page).first).to_be_visible()
    page.get_by_label("Sensor of a generated scan").click()
    page.get_by_role("option", name="vlp16").click()
    page.get_by_role("button", name="A drive").click()
    page.get_by_role("button", name="Drive", exact=True).click()
    expect(page.locator("#tracks table")).to_be_visible(timeout=90_000)
    page.get_by_role("button", name="Models side by side").click()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#compared")).to_contain_text("hand-made", timeout=90_000)
    sound(page)
