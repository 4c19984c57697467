"""The trajectory page as a person uses it, and what it keeps to itself."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.domains import domain
from demos import launcher
from demos.places import places

pytestmark = pytest.mark.browser


def write_circle(path: Path, samples: int = 120) -> Path:
    """A flight log at 10 Hz, 3 m around at 2 m/s."""
    t = np.arange(samples) / 10
    rows = [f"{a},{3 * np.cos(2 * a / 3)},{3 * np.sin(2 * a / 3)},5" for a in t]
    path.write_text("timestamp,tx,ty,tz\n" + "\n".join(rows) + "\n")
    return path


def test_an_uploaded_flight_is_predicted_and_replayed(
    page: Any, serve: Callable[[Any], str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    page.goto(serve(launcher.build("trajectory")))
    page.locator("#log input[type=file]").set_input_files(write_circle(tmp_path / "circle.csv"))
    expect(page.locator("#log").get_by_label("Clear")).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Predict").click()
    summary = page.get_by_label("Summary")
    expect(summary).to_have_value(re.compile(r"circle: 120 samples at 10 Hz\."), timeout=90_000)
    expect(page.locator("#scene canvas").first).to_be_visible(timeout=90_000)
    found = re.search(r"after 1\.0 s: ([\d.]+) m \(constant velocity ([\d.]+) m\)", summary.input_value())
    assert found is not None
    ours, straight = map(float, found.groups())
    # turning at 2/3 rad/s for one second bends the path about 0.65 m away from the straight line
    assert straight == pytest.approx(0.65, abs=0.08)
    assert ours < straight
    page.get_by_role("button", name="Live replay").click()
    expect(summary).to_have_value(re.compile(r"Replay done: \d+ predictions"), timeout=90_000)
    page.screenshot(path=tmp_path / "trajectory.png", full_page=True)
    assert (tmp_path / "trajectory.png").stat().st_size > 20_000


def test_a_wrong_file_is_a_sentence_on_the_page(
    page: Any, serve: Callable[[Any], str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    (tmp_path / "junk.csv").write_bytes(b"\x00\x01nonsense")
    page.goto(serve(launcher.build("trajectory")))
    page.locator("#log input[type=file]").set_input_files(tmp_path / "junk.csv")
    expect(page.locator("#log").get_by_label("Clear")).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Predict").click()
    toast = page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("junk.csv", timeout=60_000)
    assert str(tmp_path) not in toast.inner_text()


def test_the_hub_has_a_tab_per_pipeline(page: Any, serve: Callable[[Any], str]) -> None:
    from playwright.sync_api import expect

    page.goto(serve(launcher.build(None)))
    for name in places("page"):
        expect(page.get_by_role("tab", name=domain(name).heading)).to_be_visible(timeout=20_000)
