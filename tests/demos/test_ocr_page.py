"""The handwriting page as a person uses it: one visit, opened once."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def opened(page: Any, served: Callable[..., str]) -> None:
    """The page with its first result, however many tests came before."""
    from playwright.sync_api import expect

    if "127.0.0.1" not in page.url:
        page.goto(served("ocr"))
    expect(page.locator("#stats .r-stat")).to_have_count(4)


def test_the_page_opens_with_a_reading_and_a_control_changes_it(
    page: Any, sound: Callable[[Any], None]
) -> None:
    from playwright.sync_api import expect

    from demos.pages.ocr import MODELS
    from vision.ocr.predict import read_page
    from vision.ocr.reader import load_reader
    from vision.ocr.synth.writing import letter

    expect(page.locator("#stats .r-stat").nth(1)).to_contain_text("7")
    expect(page.locator("#page polygon")).to_have_count(7)
    expect(page.locator("#lines tr")).to_have_count(8)
    grey = letter(0)[0]
    expect(page.locator("#lines .r-read").first).to_have_text(read_page(grey).lines[0].text)
    page.locator("#page polygon").nth(2).click(force=True)
    expect(page.locator("#line-3 svg")).to_be_visible()
    sound(page)
    page.get_by_label(MODELS[1], exact=True).check()
    reader = load_reader(lm=False)
    plain = read_page(grey, reader=reader, decoding=replace(reader.decoding, alternatives=3))
    for number, line in enumerate(plain.lines):
        expect(page.locator("#lines .r-read").nth(number)).to_have_text(line.text)


def test_an_uploaded_line_is_read_by_the_weights_that_were_chosen(page: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    from vision.ocr.predict import read_line
    from vision.ocr.synth.writing import lines

    grey, _ = lines(1, 9)[0]
    Image.fromarray(grey).save(tmp_path / "line.png")
    page.get_by_label("one line").first.check()
    page.locator("#image input[type=file]").set_input_files(tmp_path / "line.png")
    expect(page.locator("#page img")).to_have_count(1)
    expect(page.locator("#lines")).to_contain_text(read_line(grey).text[:5])
    page.get_by_role("button", name="More settings").click()
    page.get_by_label("Weights", exact=True).click()
    page.get_by_role("option", name="ocr-digits").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("ocr-digits is for another task")


def test_what_is_written_with_the_mouse_is_read_and_can_be_taken_home(page: Any) -> None:
    from playwright.sync_api import expect

    page.get_by_role("button", name="Write with the mouse").click()
    canvas = page.locator("#pad canvas").last
    expect(canvas).to_be_visible()
    expect(page.locator('#pad button[aria-label="Brush"]')).to_be_visible()
    expect(page.locator("#pad").get_by_text("select the draw tool")).to_have_count(0)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    for stroke in (((0.2, 0.3), (0.2, 0.7)), ((0.3, 0.3), (0.35, 0.3), (0.32, 0.7))):
        x, y = stroke[0]
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.mouse.down()
        for x, y in stroke[1:]:
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=6)
        page.mouse.up()
    page.locator("#written").get_by_label("digits").check()
    page.get_by_role("button", name="Read it").click()
    expect(page.locator("#image")).to_contain_text(re.compile(r"written\s*\.png"))
    expect(page.locator("#stats .r-stat").nth(1)).to_have_text("line1")
    expect(page.get_by_label("digits", exact=True).first).to_be_checked()
    page.get_by_role("button", name=re.compile(r"^Download\s")).click()
    with page.expect_download() as taken:
        page.get_by_role("button", name="Make the file").click()
        page.locator("#made a").first.click()
    assert Path(taken.value.path()).read_text(encoding="utf-8").startswith("<?xml")
