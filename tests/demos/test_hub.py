"""The landing page: a card per pipeline, an address for each page, the way out where an extra is missing."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from core.domains import domain
from core.errors import MissingExtraError
from core.weights import find, load
from demos import hub
from demos.places import places


@pytest.mark.browser
def test_the_hub_shows_a_card_with_a_measured_figure_and_leads_to_the_page(
    page: Any, served: Callable[..., str], sound: Callable[[Any], None]
) -> None:
    from playwright.sync_api import expect

    page.goto(served(None))
    for word in places("page"):
        expect(page.locator(f'a.r-card[href="{word}"]')).to_contain_text(domain(word).heading)
    score = load(find("trajectory-gru"))[1].score
    card = page.locator('a.r-card[href="trajectory"]')
    expect(card).to_contain_text(f"{score['fde_1s_px4_gazebo_C1']:.2f} m off after 1 s")
    expect(card).to_contain_text(f"{score['fde_1s_px4_gazebo_C1_constant_velocity']:.2f} m")
    sound(page)
    card.click()
    expect(page.get_by_role("heading", name="Where will it be?")).to_be_visible()
    assert page.url.endswith("/trajectory")


@pytest.mark.parametrize("word", list(places("page")))
def test_a_headline_is_what_the_card_of_its_weights_says(word: str) -> None:
    headline = getattr(import_module(places("page")[word]), "HEADLINE", None)
    if headline is not None:
        figure, note = headline.read()
        score = load(find(headline.weights))[1].score
        assert figure.replace("\xa0", "") == headline.shown.format(score[headline.figure])
        assert note.replace("\xa0", "") == headline.note.format(score[headline.against])


def test_people_see_first_what_they_can_try_at_once() -> None:
    assert list(places("page")) == list(places("section"))
    assert list(places("page"))[:5] == ["speech", "ocr", "trajectory", "pointcloud", "recsys"]


def test_every_event_has_a_name_of_its_own_and_waits_in_the_queue_of_its_page() -> None:
    known: set[str] = set()
    for word in places("page"):
        blocks, names = hub.page(word), []
        for event in blocks.fns.values():
            if event.fn is None:  # stops another one
                continue
            assert event.concurrency_id.split(" ")[0] == word, event
            if event.api_visibility == "public":
                names.append(event.api_name)
        assert len(names) == len(set(names)) > 0
        assert not known.intersection(names)
        known.update(names)


def test_what_visitors_brought_to_a_killed_page_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    dead, alive = int(done.stdout), os.getpid()
    monkeypatch.setattr(hub.tempfile, "gettempdir", lambda: str(tmp_path))
    for owner in (dead, alive):
        (tmp_path / f"{hub.UPLOADS}{owner}-a").mkdir()
    hub.sweep_dead()
    assert [path.name for path in tmp_path.iterdir()] == [f"{hub.UPLOADS}{alive}-a"]


def test_a_missing_extra_is_a_grey_card_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(module: str) -> Any:
        raise ModuleNotFoundError("No module named 'plotly'", name="plotly.graph_objects")

    monkeypatch.setattr(hub, "import_module", broken)
    with pytest.raises(MissingExtraError, match=r'needs the package plotly: pip install "recurra\[demos\]"'):
        hub.page("trajectory")
    blocks = hub.build(None)
    landing = next(block for block in blocks.blocks.values() if getattr(block, "elem_id", "") == "landing")
    assert 'r-card r-grey"><b>Trajectory</b>' in landing.value
    assert "recurra[demos]" in landing.value
    assert hub.extra_of("onnxruntime") == "export"
