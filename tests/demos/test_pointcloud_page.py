"""The point cloud page as a person uses it: one visit, opened once."""

import re
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


@pytest.fixture(autouse=True)
def opened(page: Any, served: Callable[..., str]) -> None:
    """The page with its first result, however many tests came before."""
    from playwright.sync_api import expect

    if "127.0.0.1" not in page.url:
        page.goto(served("pointcloud"))
    expect(stats(page)).to_have_count(5)


def test_the_page_opens_with_what_python_finds(page: Any, sound: Callable[[Any], None]) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#scene canvas").first).to_be_visible()
    found = Detector.open()(next(generated(1, "hdl64", first=7)).cloud, floor=0.35)
    expect(stats(page).first).to_have_text(f"cars{found.names.count('Car')}")
    car = page.locator("#above polygon[role=button]").first
    car.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#above .r-told")).to_have_text(car.get_attribute("data-told"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    other = page.locator("#above polygon[role=button]").nth(1)
    expect(page.locator("#above .r-told")).to_have_text(other.get_attribute("data-told"))
    expect(page.locator("#above .r-told")).to_contain_text(" points, ")
    page.get_by_label("Car", exact=True).uncheck()
    expect(stats(page).first).to_have_text("cars0")
    page.get_by_label("Car", exact=True).check()
    expect(stats(page).first).not_to_have_text("cars0")
    sound(page)


def test_a_drive_is_followed_and_can_be_stopped(page: Any) -> None:
    from playwright.sync_api import expect

    page.get_by_label("Sensor of a generated scan").click()
    page.get_by_role("option", name="vlp16").click()
    page.get_by_role("button", name="A drive").click()
    page.get_by_role("button", name="Play").click()
    expect(page.locator("#drive")).to_contain_text(
        re.compile("Sweep [2-8] of 8")
    )  # a busy browser skips some
    page.get_by_role("button", name="Stop").first.click()
    expect(page.locator("#tracks table")).to_be_visible()


def test_models_stand_side_by_side(page: Any) -> None:
    from playwright.sync_api import expect

    page.get_by_label("Sensor of a generated scan").click()
    page.get_by_role("option", name="vlp16").click()
    page.get_by_role("button", name="Models and operators").click()
    page.get_by_role("button", name="Models on this scan").click()
    expect(page.locator("#compared")).to_contain_text("hand-made")
    expect(page.locator("#compared tr.r-ours")).to_contain_text("min_gru")


def test_an_uploaded_scan_is_read_and_a_wrong_one_is_a_sentence(page: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    scan = next(generated(1, "vlp16", first=8)).cloud.points
    np.save(tmp_path / "scan.npy", scan)
    (tmp_path / "junk.pcd").write_bytes(b"VERSION .7\nFIELDS x y\nDATA binary\n")
    page.locator("#scan input[type=file]").set_input_files(tmp_path / "scan.npy")
    expect(stats(page).nth(3)).to_have_text(f"points{len(scan):,}")
    page.locator("#scan").get_by_label("Clear").click()
    page.locator("#scan input[type=file]").set_input_files(tmp_path / "junk.pcd")
    expect(page.get_by_text("has no points")).to_be_visible()
