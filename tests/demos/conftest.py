"""A browser, pages served once for all tests by a process of their own, and what every page has to be."""

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.seconds import booked

AREA = "demos, collecting"
ALONE = "trajectory"
PATIENCE_MS = 280_000
"""Waiting for a page on a loaded machine: far more than an idle one needs."""
START_S = 600.0
"""Until the process that serves has imported a page and computed, perhaps compiled, what it opens with."""
TEST_S = 1800
"""A test waits several times."""
DESK: Any = {"width": 1280, "height": 1000}
LOOKS = 10
"""What axe finds while a page still changes is looked at again so many times, however long a look takes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks a page that is served waits for a process and a browser's word as a browser test does."""
    for item in items:
        if "served" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
            item.add_marker(pytest.mark.timeout(TEST_S))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on PATH")
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect.set_options(timeout=PATIENCE_MS)
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # it beeps
    play = sync_api.sync_playwright().start()
    browser = play.chromium.launch(
        executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage", *microphone]
    )
    yield browser
    with booked(AREA):
        browser.close()
        play.stop()


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """One window for the tests of a file, which fails when it asks for anything beyond this machine."""
    context = browser.new_context(viewport=DESK, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    foreign: list[str] = []

    def watch(request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1", "data:", "blob:", "file:")):
            foreign.append(request.url)

    page.on("request", watch)
    yield page
    context.close()
    assert not foreign, f"the page left the machine: {foreign}"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str | None], str]]:
    """The address of a pipeline's page, or of the hub; the hub is served once for all tests of a process, and
    one page also alone, as `recurra demo trajectory` serves it."""
    told = tmp_path_factory.mktemp("server") / "stderr.txt"
    with told.open("w") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.demos.server"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "TMPDIR": str(told.parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    known: dict[str, str] = {}

    def told_address(word: str) -> str:
        if word not in known:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(f"{word}\n")
            server.stdin.flush()
            ready, _, _ = select.select([server.stdout], [], [], START_S)
            answer = server.stdout.readline().strip() if ready else ""
            assert answer.startswith("http://"), f"no {word}: {told.read_text()[-2000:]}"
            known[word] = answer
        return known[word]

    def start(name: str | None = None) -> str:
        if name is None:
            return told_address("hub")
        first = told_address(f"first {name}")
        return told_address(name) if name == ALONE else first + name

    yield start
    with booked(AREA):
        try:
            server.communicate(timeout=200)  # the end of its input ends it
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture
def sound() -> Callable[[Any], None]:
    """A page in good order: its controls can be reached by keyboard, nothing scrolls sideways at 390 px, and
    axe finds nothing serious, in light and in dark."""
    pytest.importorskip("axe_playwright_python.sync_playwright")

    def check(page: Any) -> None:
        reached(page)
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_function("document.documentElement.scrollWidth <= 390")
        spotless(page)
        page.evaluate("document.body.classList.add('dark')")
        spotless(page, {"runOnly": ["color-contrast"]})
        page.evaluate("document.body.classList.remove('dark')")
        page.set_viewport_size(DESK)

    return check


def spotless(page: Any, options: dict[str, Any] | None = None) -> None:
    """No serious finding of axe; what gradio fades because it is about to be replaced is looked at again."""
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    grave: list[str] = []
    for _ in range(LOOKS):
        expect(page.locator(".pending")).to_have_count(0)
        grave = [
            f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0].get('failureSummary', '')}"
            for one in Axe().run(page, options=options).response["violations"]
            if one["impact"] in ("serious", "critical")
        ]
        if not grave:
            break
        page.wait_for_timeout(500)
    assert not grave, "\n".join(grave)


CONTROLS = """() => {
  const all = 'button, a[href], input, select, textarea, summary, [tabindex="0"], [role=slider]';
  window.wanted = [...document.querySelectorAll(all)].filter(one =>
    !one.disabled && one.tabIndex >= 0 && one.type !== 'file'
    && one.checkVisibility({visibilityProperty: true})
    && one.getClientRects().length && !one.closest('.main-svg, .modebar')
    && !(one.type === 'radio' && !one.checked));
  window.wanted[0].focus();
  return window.wanted.length;
}"""
FOCUSED = """() => {
  const now = document.activeElement, style = getComputedStyle(now);
  const around = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  const index = window.wanted.indexOf(now);
  if (index >= 0) window.wanted[index] = null;
  return [now === document.body || now === document.documentElement, around, now.outerHTML.slice(0, 160)];
}"""


def reached(page: Any) -> None:
    """The tab key comes to every visible control, and what has the focus shows it."""
    from playwright.sync_api import expect

    expect(page.locator(".pending")).to_have_count(0)
    most = 3 * page.evaluate(CONTROLS) + 20
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")  # from now on the focus is the keyboard's
    blind = []
    for _ in range(most):
        home, around, words = page.evaluate(FOCUSED)
        if home:
            break
        if not around:
            blind.append(words)
        page.keyboard.press("Tab")
    assert not blind, f"focus does not show: {blind[:3]}"
    left = page.evaluate("() => window.wanted.filter(Boolean).map(one => one.outerHTML.slice(0, 160))")
    assert not left, f"cannot be reached by keyboard: {left[:3]}"
