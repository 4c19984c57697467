"""Units side by side: size, state, what a step and a step of training cost, modes."""

import math
from collections.abc import Callable
from typing import Any

import torch

from core import catalogue, registry
from core.bench.runner import calls_per_timing, timed
from core.bench.steady import steady_step

BATCH, TIME = 8, 128
"""Of a training step."""
REPEATS = 5


def compared(names: list[str] | None, width: int) -> list[dict[str, Any]]:
    """One row a unit; times are the least of a few, in microseconds, None where a unit cannot run here."""
    return [row(name, width) for name in names or registry.names()]


def row(name: str, width: int) -> dict[str, Any]:
    facts = catalogue.row(name, width)
    unit = registry.build(name, width)
    token, x = torch.randn(1, width), torch.randn(BATCH, TIME, width)

    def train() -> None:
        unit.zero_grad()
        unit(x)[0].square().mean().backward()

    return {
        "name": facts["name"],
        "parameters": facts["parameters"],
        "state_bytes": facts["state_bytes"],
        "step_us": least(lambda: steady_step(unit, token)),
        "training_us": least(lambda: train),
        "modes": facts["modes"],
    }


def least(make: Callable[[], Callable[[], Any]]) -> float | None:
    """Microseconds of a call, the least of `REPEATS` timings."""
    try:
        call = make()
        loops = calls_per_timing(call, 1)
        return min((timed(call, loops) for _ in range(REPEATS)), default=math.nan)
    except RuntimeError:
        return None


def compared_lines(rows: list[dict[str, Any]], width: int) -> list[str]:
    """The table for people."""
    head = f"{'unit':<18}{'parameters':>11}{'state bytes':>12}{'step us':>10}{'training ms':>13}  modes"
    what = f"width {width}; training: {BATCH} rows of {TIME} tokens, forward and backward"
    lines = [what, head, "-" * len(head)]
    for unit in rows:
        step = "-" if unit["step_us"] is None else f"{unit['step_us']:.0f}"
        training = "-" if unit["training_us"] is None else f"{unit['training_us'] / 1000:.1f}"
        lines.append(
            f"{unit['name']:<18}{unit['parameters']:>11,}{unit['state_bytes']:>12,}{step:>10}{training:>13}  "
            f"{' '.join(unit['modes'])}"
        )
    return lines
