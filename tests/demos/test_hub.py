"""The landing page: a card per pipeline, an address for each page, the way out where an extra is missing."""

from collections.abc import Callable
from importlib import import_module
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
        assert figure == headline.shown.format(score[headline.figure])
        assert note == headline.note.format(score[headline.against])


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
