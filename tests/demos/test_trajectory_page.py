"""The trajectory page as a person uses it: one visit, opened once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apps.trajectory.predict import load_model
from apps.trajectory.replay import replay
from apps.trajectory.synth import generate, recorded


def write_circle(path: Path, samples: int = 120) -> Path:
    """A flight log at 10 Hz, 3 m around at 2 m/s."""
    t = np.arange(samples) / 10
    rows = [f"{a},{3 * np.cos(2 * a / 3)},{3 * np.sin(2 * a / 3)},5" for a in t]
    path.write_text("timestamp,tx,ty,tz\n" + "\n".join(rows) + "\n")
    return path


def stats(page: Any) -> Any:
    return page.locator("#stats .r-stat")


@pytest.fixture
def opened(page: Any, served: Callable[..., str]) -> Any:
    """The page with a result, however many tests came before."""
    from playwright.sync_api import expect

    if "127.0.0.1" not in page.url:
        page.goto(served("trajectory"))
    expect(stats(page).first).to_be_visible()
    return page


@pytest.mark.browser
def test_the_page_opens_with_the_figure_that_python_gives(opened: Any, sound: Callable[[Any], None]) -> None:
    from playwright.sync_api import expect

    page = opened
    flight = recorded(generate(0, 1, split="test", families=["racing"], duration_s=40.0)[0])
    expect(stats(page).first).to_have_text(f"off after 1.0 s, this model{ours(flight, 1.0)}")
    expect(page.locator("#scene canvas").first).to_be_visible()
    page.get_by_label("range slider for Seconds ahead").press("ArrowLeft")
    expect(stats(page).first).to_have_text(f"off after 0.9 s, this model{ours(flight, 0.9)}")
    page.get_by_role("button", name="All methods on this flight").click()
    expect(page.locator("#methods tr.r-ours")).to_contain_text("model")
    sound(page)


def ours(flight: Any, horizon_s: float) -> str:
    return f"{replay(flight, load_model(), horizon_s).mean['model']:.2f} m"


@pytest.mark.browser
def test_an_uploaded_flight_is_predicted_and_replayed_until_stopped(opened: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    page = opened
    page.get_by_label("range slider for Seconds ahead").press("ArrowRight")
    page.locator("#log input[type=file]").set_input_files(write_circle(tmp_path / "circle.csv"))
    expect(stats(page).nth(3)).to_contain_text("of 90 outcomes")
    expect(stats(page).first).to_contain_text("off after 1.0 s")
    straight = float(stats(page).nth(1).locator("dd").inner_text().removesuffix(" m"))
    # turning at 2/3 rad/s for one second bends the path about 0.65 m away from the straight line
    assert straight == pytest.approx(0.65, abs=0.08)
    assert float(stats(page).first.locator("dd").inner_text().removesuffix(" m")) < straight
    # events and not the mouse: a browser without a GPU draws for seconds, and a click waits for stillness
    page.get_by_role("button", name="Live replay").dispatch_event("click")
    expect(stats(page).nth(2)).to_contain_text("for this prediction")
    page.get_by_role("button", name="Stop").dispatch_event("click")


@pytest.mark.browser
def test_a_wrong_file_is_a_sentence_on_the_page(opened: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    page = opened
    (tmp_path / "junk.csv").write_bytes(b"\x00\x01nonsense")
    if page.locator("#log").get_by_label("Clear").count():
        page.locator("#log").get_by_label("Clear").dispatch_event("click")
    page.locator("#log input[type=file]").set_input_files(tmp_path / "junk.csv")
    toast = page.get_by_test_id("toast-body")
    expect(toast).to_contain_text("junk.csv")
    assert "/" not in toast.inner_text().replace("http://", "")


def test_a_replay_counts_its_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    from demos.pages import trajectory

    monkeypatch.setattr(trajectory, "FRAMES", 2)
    *frames, (last, scene) = trajectory.live(None, "racing", 0, "trajectory-gru")
    assert 2 <= len(frames) <= 4
    assert "live predictions, replay done" in last
    assert len(scene.data) >= 5


def test_the_view_fits_its_window() -> None:
    from demos.camera import aspect, fitted

    assert aspect(390) < 1 < aspect(1280)
    path = np.array([[0.0, 0, 0], [20, 0, 0], [24, 3, 1], [22, 8, 2]])
    for window, wide in ((390, aspect(390)), (1280, aspect(1280))):
        scene = fitted(path, np.array([1.0, 0.0]), window_px=window)
        x, y = projected(path, scene, wide)
        assert max(np.abs(x).max(), np.abs(y).max()) == pytest.approx(0.8, abs=0.02)
        assert x.max() + x.min() == pytest.approx(0, abs=0.02)
        assert y.max() + y.min() == pytest.approx(0, abs=0.02)


def projected(points: np.ndarray, scene: dict[str, Any], wide: float) -> tuple[np.ndarray, np.ndarray]:
    """Where points stand in a picture of a scene, -1..1, with the library's 45 degrees from bottom to top."""
    ends = np.array([scene[f"{axis}axis"]["range"] for axis in "xyz"])
    ratio = np.array([scene["aspectratio"][axis] for axis in "xyz"])
    inside = (points - ends.mean(1)) / np.ptp(ends, axis=1) * ratio
    eye, centre = (np.array([scene["camera"][name][axis] for axis in "xyz"]) for name in ("eye", "center"))
    back = (eye - centre) / np.linalg.norm(eye - centre)
    right = np.cross([0, 0, 1.0], back)
    right /= np.linalg.norm(right)
    depth = (eye - inside) @ back * np.tan(np.pi / 8)
    return (inside - eye) @ right / depth / wide, (inside - eye) @ np.cross(back, right) / depth
