"""Pictures of every page as people see it: `python -m demos.screens FOLDER [WORD..]`: light, dark, narrow."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demos.places import places

MODES = (("light", 1280, "light"), ("dark", 1280, "dark"), ("390", 390, "light"))
PATIENCE_MS = 120_000
"""For a result on a loaded machine."""
SETTLED_MS = 1500
"""After the last picture has arrived: animations end."""


def write(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Screenshots of the hub, every page and the report beside the folder, if there is one; or of some."""
    from playwright.sync_api import TimeoutError, sync_playwright

    from demos import hub, serve

    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    blocks = hub.build(None)
    address = serve.launch(blocks)
    report = folder.parent / "report.html"
    targets = {"hub": address, **{word: f"{address}{word}" for word in places("page")}}
    if report.is_file():
        targets["report"] = report.resolve().as_uri()
    written = []
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        for name, url in targets.items():
            if names and name not in names:
                continue
            for mode, width, scheme in MODES:
                path = folder / f"{name}-{mode}.png"
                try:
                    shot(browser, url, path, width, scheme)
                except TimeoutError as error:  # the others are worth seeing all the same
                    print(f"{path}: {str(error).splitlines()[0]}", file=sys.stderr)
                    continue
                written.append(path)
        browser.close()
    blocks.close()
    return written


def shot(browser: Any, url: str, path: Path, width: int, scheme: str) -> None:
    """One page, whole, when its result is there."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{url}?__theme={scheme}" if url.startswith("http") else url)
    page.wait_for_selector("h1", timeout=PATIENCE_MS)
    if page.locator("#stats").count():
        page.wait_for_selector("#stats .r-stat", timeout=PATIENCE_MS)
    if page.locator("#scene").count():
        page.wait_for_selector("#scene canvas", timeout=PATIENCE_MS)
    page.wait_for_timeout(SETTLED_MS)
    page.screenshot(path=path, full_page=True)
    context.close()


if __name__ == "__main__":
    for written in write(Path(sys.argv[1] if len(sys.argv) > 1 else "out/screens"), sys.argv[2:]):
        print(written)
