"""Logs and live streams as people have them, each through the command line: what must come out, or be said.

The files are small and written by ourselves after public reports; `expected.json` holds what is right.
"""

import itertools
import json
import math
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.cli import main
from tests.terminal import Terminal

FOLDER = Path(__file__).parents[2] / "golden" / "cases" / "trajectory"
CASES = json.loads((FOLDER / "expected.json").read_text())["cases"]
RELATIONS: dict[str, Callable[[Any, Any], bool]] = {"==": operator.eq, "<=": operator.le, ">=": operator.ge}


def names(d: Any, err: str) -> dict[str, Any]:
    """What the expressions of a case may use: metres of a prediction after some seconds, and the like."""

    def prediction(index: int) -> Any:
        return d["predictions"][index]

    def move(index: int, seconds: float) -> list[float]:
        one = prediction(index)
        steps = [(0.0, one["anchor"]), *zip(one["ahead_s"], one["mean"], strict=True)]
        known = [(ahead, place) for ahead, place in steps if place is not None]
        for (a, before), (b, after) in itertools.pairwise(known):
            if a <= seconds + 1e-6 and seconds <= b + 1e-6:
                share = (seconds - a) / (b - a)
                rows = zip(before, after, one["anchor"], strict=True)
                return [x + share * (y - x) - start for x, y, start in rows]
        raise AssertionError(f"no step reaches {seconds} s")

    def speed(index: int) -> list[float]:
        one = prediction(index)
        k = min(range(len(one["ahead_s"])), key=lambda place: abs(one["ahead_s"][place] - 1))
        return [(m - a) / one["ahead_s"][k] for m, a in zip(one["mean"][k], one["anchor"], strict=True)]

    def off(a: Any, b: Any) -> float:
        return math.dist(list(a)[: len(b)], list(b)[: len(a)])

    return {"d": d, "err": err, "P": prediction, "move": move, "speed": speed, "off": off}


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: f"{number}-{CASES[number]['name']}")
def test_a_log_of_the_field_gives_the_right_numbers(
    number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[number]
    path = FOLDER / case["name"]
    words = [str(path) if word == "{}" else word for word in case["args"]]
    stdin = path.read_text() if case.get("stdin") else None
    code, out, err = Terminal(capsys, monkeypatch, main)("trajectory", *words, stdin=stdin)
    assert code in (case["exit"] if isinstance(case["exit"], list) else [case["exit"]]), err
    if "stderr" in case:
        assert re.search(case["stderr"], err), err
    result: Any = {}
    if out.strip():
        result = [json.loads(line) for line in out.splitlines()] if stdin is not None else json.loads(out)
    known = names(result, err)
    for expression, relation, *bound in case.get("expect", ()):
        value = eval(expression, {"__builtins__": {}, **SAFE}, known)
        if relation == "near":
            assert value == pytest.approx(bound[0], abs=bound[1]), expression
        else:
            assert RELATIONS[relation](value, bound[0]), f"{expression} is {value}, not {relation} {bound[0]}"


SAFE: dict[str, Any] = {one.__name__: one for one in (len, all, any, max, min, abs, sum, sorted, isinstance)}
SAFE |= {one.__name__: one for one in (range, float, int, str, set, list, dict, math)}
