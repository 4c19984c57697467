"""The recommendation page as a person uses it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys.visit import arrive, click, shelf

pytestmark = pytest.mark.browser


def stats(page: Any) -> Any:
    return page.locator("#stats .r-stat")


def chance(visit: Any, policy: str = "inslate") -> tuple[str, list[int]]:
    shown = shelf(visit, [policy], 6, temperature=0.3)[policy]
    return f"{100 * shown.clicked:.0f} %", [int(item) for item in shown.slate.items]


@pytest.fixture(autouse=True)
def opened(page: Any, served: Callable[..., str]) -> None:
    """The page with a result, however many tests came before."""
    from playwright.sync_api import expect

    if "127.0.0.1" not in page.url:
        page.goto(served("recsys"))
    expect(stats(page)).to_have_count(5)


def test_the_page_opens_with_the_figure_that_python_gives_and_a_click_moves_it(
    page: Any, sound: Callable[[Any], None]
) -> None:
    from playwright.sync_api import expect

    visit = arrive(7)
    words, items = chance(visit)
    expect(stats(page).first.locator("dd")).to_have_text(words)
    expect(page.locator("#slates tr.r-ours")).to_contain_text("in-slate Thompson")
    expect(page.locator("#slates tr.r-ours .r-slot b")).to_have_text([str(item) for item in items])
    expect(stats(page).nth(3).locator("dd")).to_have_text("5")
    page.get_by_role("button", name="Click it").click()
    expect(stats(page).nth(3).locator("dd")).to_have_text("6")
    expect(stats(page).first.locator("dd")).to_have_text(chance(click(visit, items, 1))[0])
    sound(page)
    expect(page.locator("#map .gtitle")).to_contain_text("near group")
    expect(page.locator("#map .legend")).to_have_count(0)  # words below the plot stand for it
    expect(page.locator("#key")).to_contain_text("interest")


def test_an_uploaded_log_is_judged_and_a_wrong_one_is_a_sentence(page: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    rows = "\n".join(f"{n % 4},{n % 3 + 1},{int(n % 11 == 0)},0.25" for n in range(400))
    (tmp_path / "log.csv").write_text("item_id,position,click,propensity_score\n" + rows + "\n")
    (tmp_path / "junk.csv").write_text("a,b\n1,2\n")
    page.get_by_role("button", name=re.compile("Off-policy")).click()
    page.locator("#log input[type=file]").set_input_files(tmp_path / "log.csv")
    expect(page.locator("#verdict .r-stat").first).to_contain_text("SNIPS")
    page.locator("#log").get_by_label("Clear").click()
    page.locator("#log input[type=file]").set_input_files(tmp_path / "junk.csv")
    expect(page.get_by_test_id("toast-body").filter(has_text="no column for item")).to_be_visible()


def test_the_market_of_policies_is_played_at_a_density_and_a_temperature(page: Any) -> None:
    from playwright.sync_api import expect

    from recsys.compare import compare, town_of

    page.get_by_role("button", name=re.compile("online loop")).click()
    number = page.get_by_label("number input for Paired seeds")
    number.fill("2")
    number.press("Enter")
    expect(page.get_by_label("range slider for Paired seeds")).to_have_value("2")
    page.get_by_role("button", name="Play").click()
    town = compare((town_of(12),), ("inslate", "ts"), (0.3,), 2, positions=("known",))
    rows = next(iter(town["worlds"].values()))["policies"]
    expect(page.locator("#games")).to_contain_text(f"{rows['greedy']['regret']:.2f}")
    expect(page.locator("#curves")).to_contain_text("12 impressions an item")
