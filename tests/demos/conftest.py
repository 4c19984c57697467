"""A browser, and pages served for one test."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on PATH")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that fails the test when it asks for anything beyond this machine."""
    context = browser.new_context(viewport={"width": 1300, "height": 1200})
    page = context.new_page()
    foreign: list[str] = []

    def watch(request: Any) -> None:
        if not request.url.startswith(("http://127.0.0.1", "data:", "blob:")):
            foreign.append(request.url)

    page.on("request", watch)
    yield page
    context.close()
    assert not foreign, f"the page left the machine: {foreign}"


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Serve blocks on a free port until the test ends."""
    from demos.launcher import launch

    served: list[Any] = []

    def start(blocks: Any) -> str:
        served.append(blocks)
        return launch(blocks)

    yield start
    for blocks in served:
        blocks.close()
