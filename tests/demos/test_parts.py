"""What pages and report are made of: escaped HTML, one file, a scene that ends around its subject.

Gradio is loaded inside the tests that need it: every worker collects all tests, and one of them runs these.
"""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from core.domains import domain
from core.errors import DataError, MissingExtraError
from demos import quickstart
from demos.camera import fitted
from demos.deadline import OutOfTime, at_most
from demos.first import once
from demos.markup import Stat, card, stat_row, table
from demos.plots import drawing, svg, thinned
from demos.report import Missing, Section, report
from demos.theme import OURS

SECTION = Section(
    title="Tea",
    question="Is it hot?",
    what="Two cups.",
    stats=(Stat("80 <C>", "now", ours=True), Stat("20 C", "the room")),
    head=("who", "C"),
    rows=[("model", "80"), ("room", "20")],
    ours="model",
    compare="room",
    pictures=[('<svg role="img" aria-label="steam"></svg>', "Steam.")],
    command="recurra tea --hot",
    links=(("README", "README.md"), ("Nowhere", "no/such/file.md")),
)


def test_the_report_is_one_file_that_asks_for_nothing() -> None:
    page = report([("tea", SECTION, 1.5), ("milk", Missing("Milk", "needs cow"), 0.1)], ["today", "here"])
    assert "<h2>Is it hot?</h2>" in page
    assert "80 &lt;C&gt;" in page
    assert re.search(r'<tr class="r-ours"><th scope="row">model</th><td>80</td>', page)
    assert re.search(r'<tr class="r-beside"><th scope="row">room</th>', page)
    assert 'href="#tea"' in page
    assert 'r-grey"><b>Milk</b><small>needs cow</small>' in page
    assert "recurra tea --hot" in page
    assert "data-copy" in page
    assert "prefers-color-scheme:dark" in page
    assert "@media print" in page
    assert not re.search(r"(src|href)=.(http|//)|@import|url\(", page)


def test_links_lead_from_the_report_into_the_source_tree(tmp_path: Path) -> None:
    placed = quickstart.placed(SECTION, Path("out"))
    assert isinstance(placed, Section)
    assert placed.links == (("README", "../README.md"),)
    assert quickstart.placed(Missing("Milk", "no"), tmp_path) == Missing("Milk", "no")


def test_a_pipeline_without_its_extra_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> object:
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(quickstart, "import_module", missing)
    part = quickstart.shown(domain("trajectory"), "demos.sections.trajectory", 0)
    assert part == Missing("Trajectory", 'needs onnx: pip install "recurra[export]".')


def test_markup_is_escaped() -> None:
    for markup in (
        stat_row([Stat("<b>", "<i>", colour='"x')]),
        table(["<b>"], [["<i>", "<u>"]]),
        card("<b>", "<i>", "<u>", "<s>", href='"x'),
    ):
        assert not re.search(r'<[ius]>|<b>(?!&lt;)|""x', markup)


def test_the_scene_ends_around_its_subject_to_one_scale() -> None:
    subject = np.array([[10.0, 0, 5], [20, 1, 5], [30, np.nan, 5]])
    scene = fitted(subject, np.array([1.0, 0.0]))
    sizes = {axis: np.ptp(scene[f"{axis}axis"]["range"]) for axis in "xyz"}
    for axis, low, high in (("x", 10, 20), ("y", 0, 1), ("z", 5, 5)):
        begin, end = scene[f"{axis}axis"]["range"]
        assert begin < low
        assert end > high
    ratio = scene["aspectratio"]
    assert ratio["y"] / ratio["x"] == pytest.approx(sizes["y"] / sizes["x"])
    assert max(sizes.values()) == pytest.approx(11.6)
    # the eye stands to the right of a way along x, and above it
    assert scene["camera"]["eye"]["y"] < 0 < scene["camera"]["eye"]["z"]


def test_a_picture_follows_light_and_dark_and_says_what_it_shows() -> None:
    with drawing(3, 2) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=OURS)
        markup = svg(figure, 'a "line"')
    assert OURS not in markup
    assert "var(--r-ours)" in markup
    assert 'aria-label="a &quot;line&quot;"' in markup
    assert markup.startswith("<svg")
    assert len(range(100_000)[thinned(100_000, 25_000)]) <= 25_000


def test_the_first_result_is_computed_once_for_all_who_ask() -> None:
    calls: list[int] = []

    def slow(value: int) -> int:
        calls.append(value)
        time.sleep(0.05)
        return 2 * value

    kept = once(slow)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(kept, [3, 3, 3, 4])) == [6, 6, 6, 8]
    assert sorted(calls) == [3, 4]


def test_expected_failures_are_sentences_without_paths() -> None:
    import gradio as gr

    from demos.uploads import said, upload_folder

    place = f"{upload_folder()}/abc123/log.csv"

    @said
    def handler(kind: type[Exception]) -> None:
        raise kind(f"{place}: is empty.")

    for kind in (DataError, MissingExtraError, OSError):
        with pytest.raises(gr.Error, match=r"^'?log.csv: is empty\."):
            handler(kind)


def test_an_error_of_ours_is_called_ours_and_tags_are_text(caplog: pytest.LogCaptureFixture) -> None:
    import gradio as gr

    from demos.uploads import said

    with pytest.raises(gr.Error, match="error of ours"):
        said(lambda: 1 / 0)()
    assert "ZeroDivisionError" in caplog.text

    @said
    def refuse() -> None:
        raise DataError("no column <img src=http://127.0.0.1:9/x>, but \x1b[2J")

    with pytest.raises(gr.Error) as error:
        refuse()
    assert str(error.value.message) == "no column &lt;img src=http://127.0.0.1:9/x&gt;, but \\x1b[2J"


def test_work_is_stopped_when_its_time_is_over() -> None:
    def for_ever(seconds: float) -> int:
        count = 0
        with at_most(seconds):
            while True:
                count += 1

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(for_ever, 0.05), pool.submit(for_ever, 0.1)
        for future in (first, second):
            with pytest.raises(OutOfTime):
                future.result(timeout=200)
        assert pool.submit(sum, range(1000)).result() == 499_500
    with at_most(30):
        total = sum(range(1000))
    assert total == 499_500


def test_a_request_that_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import gradio as gr

    from demos import uploads

    monkeypatch.setattr(uploads, "MOST_S", 0.05)

    @uploads.said
    def slowly() -> None:
        while True:
            pass

    with pytest.raises(gr.Error, match=r"more than 0\.05 s"):
        slowly()
