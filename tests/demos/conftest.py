"""A browser, pages served once for all tests, and what every page has to be."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

PATIENCE_MS = 90_000
"""Waiting for a page on a loaded machine: far more than an idle one needs."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on PATH")
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect.set_options(timeout=PATIENCE_MS)
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails the test when it asks for anything beyond this machine."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
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
def served() -> Iterator[Callable[[str | None], str]]:
    """The address of a pipeline's page, or of the hub; each is served once for all tests of a process."""
    from demos import hub, serve

    running: dict[str | None, tuple[Any, str]] = {}

    def start(name: str | None = None) -> str:
        if name not in running:
            blocks = hub.build(name)
            running[name] = blocks, serve.launch(blocks, name=name)
        return running[name][1]

    yield start
    for blocks, _ in running.values():
        blocks.close()


@pytest.fixture
def sound() -> Callable[[Any], None]:
    """A page in good order: nothing scrolls sideways at 390 px, and axe finds nothing serious."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    from playwright.sync_api import expect

    def check(page: Any) -> None:
        page.set_viewport_size({"width": 390, "height": 844})
        expect(page.locator(".pending")).to_have_count(0)  # gradio fades what it is about to replace
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        found = axe.Axe().run(page).response["violations"]
        grave = [
            f"{one['id']}: {one['nodes'][0]['html'][:200]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert not grave, "\n".join(grave)

    return check
