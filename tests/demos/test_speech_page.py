"""The speech page as a person uses it: one visit, opened once."""

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import speech
from speech import metrics
from speech.synth import noisy_example

PRESSES, HEARD_MS = 10, 30_000
"""As often as a visitor presses record again who sees nothing for so long."""


def stats(page: Any) -> Any:
    return page.locator("#stats .r-stat")


@pytest.fixture
def opened(page: Any, served: Callable[..., str]) -> Any:
    """The page with a result, however many tests came before."""
    from playwright.sync_api import expect

    if "127.0.0.1" not in page.url:
        page.goto(served("speech"))
    expect(stats(page).nth(1)).to_be_visible()
    return page


@pytest.mark.browser
def test_the_page_opens_with_the_figure_that_python_gives(opened: Any, sound: Callable[[Any], None]) -> None:
    from playwright.sync_api import expect

    from demos.pages.speech import FIRST

    page, clip = opened, noisy_example(FIRST)
    figure = metrics.si_sdr(speech.enhance(clip.noisy, 16000), clip.clean)
    expect(stats(page).first).to_have_text(f"SI-SDR after the network{figure:.1f} dB")
    expect(page.locator("#sounds .r-track svg")).to_have_count(2)
    expect(page.locator("#sounds .r-track img")).to_have_count(2)
    expect(page.locator("#second")).to_have_count(0)
    page.get_by_label("two talkers").check()
    expect(stats(page).first).to_contain_text("gained for each talker")
    expect(page.locator("#speakers svg")).to_be_visible()
    page.get_by_role("button", name="Live replay").click()
    expect(stats(page).first).to_contain_text("of real time")
    sound(page)


@pytest.mark.browser
def test_a_dropped_file_is_cleaned(opened: Any, tmp_path: Path) -> None:
    import soundfile
    from playwright.sync_api import expect

    page, wave = opened, 0.1 * np.random.default_rng(0).standard_normal(24000).astype(np.float32)
    soundfile.write(tmp_path / "hiss.wav", wave, 16000)
    page.get_by_label("noisy voice").check()
    page.locator("#recording input[type=file]").set_input_files(tmp_path / "hiss.wav")
    expect(stats(page).first).to_contain_text("taken away")
    expect(page.locator("#second")).to_have_count(0)


@pytest.mark.browser
def test_the_microphone_goes_through_the_stream_live(opened: Any) -> None:
    from playwright.sync_api import expect

    page, live = opened, opened.locator("#live .r-stat")
    page.get_by_role("button", name="Live, from your microphone").click()
    microphone = page.locator("#microphone")
    expect(microphone.get_by_label("Select input device")).to_be_visible()
    for _ in range(PRESSES):  # gradio does nothing with a press that comes before its encoder
        microphone.get_by_role("button", name="Record").click()
        with suppress(AssertionError):
            expect(live.first).not_to_contain_text("Press record", timeout=HEARD_MS)
            break
        microphone.get_by_role("button", name="Stop").click()
    expect(live.first).to_have_text(re.compile(r"^of real time, computing\d+\.\d{3}$"))
    expect(live.nth(1)).to_have_text(re.compile(r"^latency of the network3\d ms$"))
    expect(live.nth(4)).to_have_text(
        re.compile(r"^heard[1-9]\d*\.\d s$")
    )  # the browser's own test device beeps
    microphone.get_by_role("button", name="Stop").click()
    expect(page.locator("#sounds")).to_contain_text("microphone")
    expect(page.locator("#sounds")).to_contain_text("after the network, live")


def test_a_live_session_gives_what_a_whole_file_gives() -> None:
    from demos.pages.speech_live import NOISY, kept, listen

    wave = noisy_example(0).noisy[:16000]
    session = None
    for piece in np.array_split((wave * 32767).astype(np.int16), 7):
        session, row = listen((16000, piece), NOISY, session)
    assert "1.0 s" in row
    assert session.report.dry_blocks == 0 or session.report.late_blocks
    heard, made, rate = kept(session)
    assert (rate, len(made)) == (16000, 1)
    np.testing.assert_allclose(heard, wave[: len(heard)], atol=1e-4)
    if not session.report.dry_blocks:
        whole = speech.enhance(wave, 16000)[: len(heard)]
        np.testing.assert_allclose(made[0], whole, atol=1e-3)


def test_a_second_player_is_there_only_for_a_second_talker() -> None:
    from demos.pages.speech import NOBODY, talkers

    wave = noisy_example(0).clean
    *_, first, second, _ = talkers(wave, 16000, None, (0 * wave, wave))
    assert second is NOBODY
    assert np.abs(first[1]).max() > 0
    *_, second, bars = talkers(wave, 16000, None, (wave, np.roll(wave, 8000)))
    assert second is not NOBODY
    assert "talker 2" in bars
