"""The trajectory page as a person uses it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.trajectory.predict import load_model
from apps.trajectory.replay import replay
from apps.trajectory.synth import generate, recorded

pytestmark = pytest.mark.browser


def write_circle(path: Path, samples: int = 120) -> Path:
    """A flight log at 10 Hz, 3 m around at 2 m/s."""
    t = np.arange(samples) / 10
    rows = [f"{a},{3 * np.cos(2 * a / 3)},{3 * np.sin(2 * a / 3)},5" for a in t]
    path.write_text("timestamp,tx,ty,tz\n" + "\n".join(rows) + "\n")
    return path


def stats(page: Any) -> Any:
    return page.locator("#stats .r-stat")


def test_the_page_opens_with_the_figure_that_python_gives(
    page: Any, served: Callable[..., str], sound: Callable[[Any], None]
) -> None:
    from playwright.sync_api import expect

    flight = recorded(generate(0, 1, split="test", families=["racing"], duration_s=40.0)[0])
    page.goto(served("trajectory"))
    expect(stats(page).first).to_have_text(f"off after 1.0 s, this model{ours(flight, 1.0)}")
    expect(page.locator("#scene canvas").first).to_be_visible()
    page.get_by_label("range slider for Seconds ahead").press("ArrowLeft")
    expect(stats(page).first).to_have_text(f"off after 0.9 s, this model{ours(flight, 0.9)}")
    page.get_by_role("button", name="All methods on this flight").click()
    expect(page.locator("#methods tr.r-ours")).to_contain_text("model")
    sound(page)


def ours(flight: Any, horizon_s: float) -> str:
    return f"{replay(flight, load_model(), horizon_s).mean['model']:.2f} m"


def test_an_uploaded_flight_is_predicted_and_replayed(
    page: Any, served: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import expect

    from demos.pages import trajectory

    monkeypatch.setattr(
        trajectory, "FRAMES", 2
    )  # each picture in space costs a browser without a GPU seconds
    page.goto(served("trajectory"))
    expect(stats(page).first).to_be_visible()
    page.locator("#log input[type=file]").set_input_files(write_circle(tmp_path / "circle.csv"))
    expect(stats(page).nth(3)).to_contain_text("of 90 outcomes")
    straight = float(stats(page).nth(1).locator("dd").inner_text().removesuffix(" m"))
    # turning at 2/3 rad/s for one second bends the path about 0.65 m away from the straight line
    assert straight == pytest.approx(0.65, abs=0.08)
    assert float(stats(page).first.locator("dd").inner_text().removesuffix(" m")) < straight
    page.get_by_role("button", name="Live replay").click()
    expect(stats(page).first).to_have_text(re.compile(r"live predictions, replay done\d+"))


def test_a_wrong_file_is_a_sentence_on_the_page(
    page: Any, served: Callable[..., str], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    (tmp_path / "junk.csv").write_bytes(b"\x00\x01nonsense")
    page.goto(served("trajectory"))
    expect(stats(page).first).to_be_visible()
    page.locator("#log input[type=file]").set_input_files(tmp_path / "junk.csv")
    toast = page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("junk.csv")
    assert "/" not in toast.inner_text().replace("http://", "")
