"""Which tests run side by side, and which a fast run leaves out: from what each took here the last time.

The files that took longest come first, so that no worker ends long after the other; tests of a file stay with
one worker, which makes its shared fixtures once, and all pages with one, which serves them once.
"""

from typing import Any

import pytest

from tests.seconds import kept

FAST_S = 0.05
"""CPU seconds that a test of the fast run took the last time; it started no process and opened no browser.
What compiles or exports takes longer. A test of which nothing is known runs, and is known afterwards."""
TOGETHER = "tests/demos/"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help=f"only tests that took up to {FAST_S} CPU s here")


def place(nodeid: str) -> str:
    """What stays with one worker."""
    return TOGETHER if nodeid.startswith(TOGETHER) else nodeid.split("::", 1)[0]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    known = kept()
    if config.getoption("--fast"):
        fast = [item for item in items if is_fast(item, known)]
        config.hook.pytest_deselected(items=[item for item in items if not is_fast(item, known)])
        items[:] = fast
    if hasattr(config, "workerinput"):
        took: dict[str, float] = {}
        for item in items:
            seconds, _ = known.get(item.nodeid, (0.1, 0.0))
            took[place(item.nodeid)] = took.get(place(item.nodeid), 0.0) + seconds
        items.sort(key=lambda item: -took[place(item.nodeid)])


def is_fast(item: pytest.Item, known: dict[str, tuple[float, float]]) -> bool:
    seconds, elsewhere = known.get(item.nodeid, (0.0, 0.0))
    return seconds <= FAST_S and not elsewhere and not item.get_closest_marker("browser")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Places(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return place(nodeid)

    config.option.loadscopereorder = False
    return Places(config, log)
