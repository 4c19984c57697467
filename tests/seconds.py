"""CPU seconds of every area of the suite beside its budget, printed at the end of a run.

CPU seconds and not wall time, children included: a busy machine does not change them much. What each test
took is kept in `.venv`, for the order of the next run and the choice of `make test-fast` (`tests.order`).
"""

import json
import os
import resource
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from contextlib import contextmanager
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
costs: dict[str, list[float]] = {}
"""Test -> [CPU seconds, of which in processes that it started]."""
served: dict[str, float] = defaultdict(float)
"""Area -> CPU seconds of processes that worked for many of its tests, in this worker."""
state = {"last": 0.0, "children": 0.0}
"""CPU seconds when the last phase of a test ended, and those of children alone."""
KEPT = Path(__file__).parents[1] / ".venv" / "seconds.json"
"""Test -> (CPU seconds, of which in processes that it started): the least that was seen, since the first test
of a worker also imports, and compiles where the cache is empty."""


def kept() -> dict[str, tuple[float, float]]:
    """What is known of earlier runs here."""
    try:
        return {name: (own, children) for name, (own, children) in json.loads(KEPT.read_text()).items()}
    except (OSError, ValueError):
        return {}


def keep() -> None:
    """Add this run to what is known."""
    if not KEPT.parent.is_dir() or not costs:
        return
    known = kept()
    for name, (seconds, elsewhere) in costs.items():
        before = known.get(name, (seconds, elsewhere))
        known[name] = (min(before[0], seconds), min(before[1], elsewhere))
    partial = KEPT.with_name(f"seconds.{os.getpid()}.tmp")
    partial.write_text(json.dumps(known, indent=0))
    partial.replace(KEPT)


def children() -> float:
    """CPU seconds of children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def used() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return time.process_time() + children()


def area(nodeid: str) -> str:
    path = nodeid.split("::")[0].removeprefix("tests/")
    return next((name for place, name in PLACES if path.startswith(place)), "core, the rest")


@contextmanager
def booked(where: str) -> Iterator[None]:
    """Around the end of a process that served many tests: its CPU seconds, which the system tells when it has
    ended, belong to an area and not to the test that happens to be the last."""
    before = used()
    yield
    spent_there = used() - before
    served[where] += spent_there
    state["last"] += spent_there
    state["children"] = children()


def pytest_runtest_logstart(nodeid: str) -> None:
    """Forget what came before this test."""
    state.update(last=used(), children=children())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    report = yield
    now, others = used(), children()
    took = [("cpu_s", now - state["last"]), ("children_s", others - state["children"])]
    report.user_properties = [*report.user_properties, *took]
    state.update(last=now, children=others)
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = area(report.nodeid)
    took = dict(report.user_properties)
    seconds = took.get("cpu_s", 0.0)
    spent[name] += seconds
    tests[report.nodeid] += seconds
    cost = costs.setdefault(report.nodeid, [0.0, 0.0])
    cost[0], cost[1] = round(cost[0] + seconds, 3), round(cost[1] + took.get("children_s", 0.0), 3)
    counted[name] += report.when == "call"


def pytest_collection_finish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["collecting"] = used()
    else:
        spent["demos, collecting"] += used()


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["served"] = dict(served)
    else:
        add(served)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", {})
    spent["demos, collecting"] += output.get("collecting", 0.0)
    add(output.get("served", {}))


def add(seconds: dict[str, float]) -> None:
    """What processes of a worker took, to their areas."""
    for name, value in seconds.items():
        spent[name] += value
        tests[f"{name}: processes that served many tests"] += value


def pytest_terminal_summary(terminalreporter: Any) -> None:
    keep()
    if sum(counted.values()) < 20:  # a few tests tell nothing about an area
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
