"""CPU seconds of every area of the suite beside its budget, printed at the end of a run.

CPU seconds and not wall time, children included: a busy machine does not change them much.
"""

import os
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

BUDGETS = {
    "core/kernels": 55,
    "core/units, battery": 40,
    "core/training": 40,
    "core, the rest": 50,
    "apps/trajectory": 45,
    "demos, collecting": 20,
    "speech": 150,
    "vision/ocr, core/ctc": 150,
    "vision/pointcloud": 110,
    "recsys": 110,
}
"""Area -> CPU seconds, one thread, compile cache empty."""
PLACES = (
    ("core/kernels", "core/kernels"),
    ("core/units", "core/units, battery"),
    ("core/test_battery.py", "core/units, battery"),
    ("core/training", "core/training"),
    ("core/ctc", "vision/ocr, core/ctc"),
    ("vision/ocr", "vision/ocr, core/ctc"),
    ("vision/pointcloud", "vision/pointcloud"),
    ("apps/trajectory", "apps/trajectory"),
    ("speech", "speech"),
    ("recsys", "recsys"),
    ("demos", "demos, collecting"),
)
"""Beginning of a path below tests/ -> its area; the rest is the rest of the core."""

MOST = 15
"""Tests that are named with what they cost, from 2 s on."""

spent: dict[str, float] = defaultdict(float)
counted: dict[str, int] = defaultdict(int)
tests: dict[str, float] = defaultdict(float)
state = {"last": 0.0}
"""CPU seconds when the last phase of a test ended."""


def used() -> float:
    """CPU seconds of this process and of its children that have ended."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def area(nodeid: str) -> str:
    path = nodeid.split("::")[0].removeprefix("tests/")
    return next((name for place, name in PLACES if path.startswith(place)), "core, the rest")


def pytest_runtest_logstart(nodeid: str) -> None:
    """Forget what came before this test."""
    state["last"] = used()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    now = used()
    report.user_properties = [*report.user_properties, ("cpu_s", now - state["last"])]
    state["last"] = now
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = area(report.nodeid)
    seconds = sum(value for key, value in report.user_properties if key == "cpu_s")
    spent[name] += seconds
    tests[report.nodeid] += seconds
    counted[name] += report.when == "call"


def pytest_collection_finish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["collecting"] = used()
    else:
        spent["demos, collecting"] += used()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    spent["demos, collecting"] += getattr(node, "workeroutput", {}).get("collecting", 0.0)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if sum(counted.values()) < 200:  # a few tests tell nothing about an area
        return
    terminalreporter.section("CPU seconds")
    total = 0.0
    for name, budget in BUDGETS.items():
        if not spent[name] and not (Path(__file__).parent / name.split(",")[0]).exists():
            continue
        over = "  over" if spent[name] > budget else ""
        line = f"{name:<24}{counted[name]:>6} tests{spent[name]:>8.0f} s   budget {budget:>4} s{over}"
        terminalreporter.write_line(line)
        total += spent[name]
    terminalreporter.write_line(f"{'all':<24}{sum(counted.values()):>6} tests{total:>8.0f} s")
    for nodeid in sorted(tests, key=lambda name: -tests[name])[:MOST]:
        if tests[nodeid] >= 2:
            terminalreporter.write_line(f"{tests[nodeid]:>6.1f} s  {nodeid}")
