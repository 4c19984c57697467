"""The handwriting page as a person uses it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytestmark = pytest.mark.browser


def test_the_page_opens_with_a_reading_and_a_control_changes_it(
    page: Any, served: Callable[..., str], sound: Callable[[Any], None]
) -> None:
    from playwright.sync_api import expect

    page.goto(served("ocr"))
    expect(page.locator("#stats .r-stat").nth(1)).to_contain_text("7")
    expect(page.locator("#page polygon")).to_have_count(7)
    expect(page.locator("#lines tr")).to_have_count(8)
    sound(page)
    page.get_by_label("without", exact=True).check()
    expect(page.locator("#lines tr")).to_have_count(8)


def test_an_uploaded_line_is_read(page: Any, served: Callable[..., str], tmp_path: Path) -> None:
    from playwright.sync_api import expect

    from vision.ocr.predict import read_line
    from vision.ocr.synth.writing import lines

    grey, _ = lines(1, 9)[0]
    Image.fromarray(grey).save(tmp_path / "line.png")
    page.goto(served("ocr"))
    expect(page.locator("#page polygon")).to_have_count(7)
    page.get_by_label("one line").check()
    page.locator("#image input[type=file]").set_input_files(tmp_path / "line.png")
    expect(page.locator("#page img")).to_have_count(1)
    expect(page.locator("#lines")).to_contain_text(read_line(grey).text[:5])
