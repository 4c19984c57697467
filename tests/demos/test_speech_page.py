"""The speech page as a person uses it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import speech
from speech import metrics
from speech.synth import noisy_example

pytestmark = pytest.mark.browser


def stats(page: Any) -> Any:
    return page.locator("#stats .r-stat")


def test_the_page_opens_with_the_figure_that_python_gives(
    page: Any, served: Callable[..., str], sound: Callable[[Any], None]
) -> None:
    from playwright.sync_api import expect

    from demos.pages.speech import FIRST

    clip = noisy_example(FIRST)
    figure = metrics.si_sdr(speech.enhance(clip.noisy, 16000), clip.clean)
    page.goto(served("speech"))
    expect(stats(page).first).to_have_text(f"SI-SDR after the network{figure:.1f} dB")
    expect(page.locator("#spectrograms img")).to_be_visible()
    page.get_by_label("two talkers").check()
    expect(stats(page).first).to_contain_text("gained for each talker")
    expect(page.locator("#speakers svg")).to_be_visible()
    page.get_by_role("button", name="Live replay").click()
    expect(stats(page).first).to_contain_text("of real time")
    sound(page)


def test_a_dropped_file_is_cleaned(page: Any, served: Callable[..., str], tmp_path: Path) -> None:
    import soundfile
    from playwright.sync_api import expect

    wave = 0.1 * np.random.default_rng(0).standard_normal(24000).astype(np.float32)
    soundfile.write(tmp_path / "hiss.wav", wave, 16000)
    page.goto(served("speech"))
    expect(stats(page).first).to_be_visible()
    page.locator("#recording input[type=file]").set_input_files(tmp_path / "hiss.wav")
    expect(stats(page).first).to_contain_text("taken away")
    expect(page.locator("#second")).to_have_count(0)


def test_a_second_player_is_there_only_for_a_second_talker() -> None:
    from demos.pages.speech import NOBODY, talkers

    wave = noisy_example(0).clean
    *_, first, second, _ = talkers(wave, 16000, None, (0 * wave, wave))
    assert second is NOBODY
    assert np.abs(first[1]).max() > 0
    *_, second, bars = talkers(wave, 16000, None, (wave, np.roll(wave, 8000)))
    assert second is not NOBODY
    assert "talker 2" in bars
