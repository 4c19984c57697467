"""Measure what a piece of code costs beside a peer, in one run.

A case names a callable, its sizes and what it is compared with. Ours and the peer's calls alternate, so
that a busy moment hits both; the figure is the ratio of medians. What is no time (requests per second, the
slowest of a hundred, bytes) is a case with a `value`: a number with its unit and the bound that it must keep.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import RecurraError


@dataclass(frozen=True)
class Case:
    """One thing to measure. `make()` returns our callable and, with a peer, the peer's."""

    name: str
    sizes: str
    make: Callable[[], tuple[Callable[[], Any], Callable[[], Any] | None]] | None = None
    peer: str | None = None
    """Name of the peer or of the hardware ceiling."""
    target: float | None = None
    """Ratio ours / peer to stay under."""
    limit_us: float | None = None
    """Microseconds to stay under."""
    repeats: int = 15
    value: Callable[[], float] | None = None
    """Measures itself, in place of `make`; called once."""
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    """Bounds of the value."""


@dataclass(frozen=True)
class Figure:
    """A measured case; times in microseconds."""

    name: str
    sizes: str
    threads: int
    ours_us: float
    spread_us: float
    """Half the distance between the quartiles of ours."""
    peer: str | None
    peer_us: float | None
    ratio: float | None
    target: float | None
    limit_us: float | None
    met: bool | None
    """Whether both targets are kept; None without one."""
    error: str | None = None
    """Why the case could not run here; its times are not numbers then."""
    value: float | None = None
    unit: str = ""
    bound: str = ""
    """Of a value, in words."""


def measure(case: Case, *, warm_up: int = 3) -> Figure:
    """Median times of a case and of its peer; short calls are repeated inside one timing."""
    import torch

    if case.value is not None:
        return valued(case, case.value())
    assert case.make is not None
    ours, peer = case.make()
    loops = calls_per_timing(ours, warm_up)
    peer_loops = calls_per_timing(peer, warm_up) if peer else 1
    times: list[float] = []
    peer_times: list[float] = []
    for _ in range(case.repeats):
        times.append(timed(ours, loops))
        if peer:
            peer_times.append(timed(peer, peer_loops))
    median = statistics.median(times)
    quartiles = statistics.quantiles(times, n=4)
    peer_median = statistics.median(peer_times) if peer else None
    ratio = median / peer_median if peer_median else None
    verdicts = [median <= case.limit_us] if case.limit_us is not None else []
    verdicts += [ratio <= case.target] if case.target is not None and ratio is not None else []
    return Figure(
        name=case.name,
        sizes=case.sizes,
        threads=torch.get_num_threads(),
        ours_us=median,
        spread_us=(quartiles[2] - quartiles[0]) / 2,
        peer=case.peer,
        peer_us=peer_median,
        ratio=ratio,
        target=case.target,
        limit_us=case.limit_us,
        met=all(verdicts) if verdicts else None,
    )


def valued(case: Case, value: float) -> Figure:
    """A figure that is a number with a unit."""
    verdicts = [value >= case.at_least] if case.at_least is not None else []
    verdicts += [value <= case.at_most] if case.at_most is not None else []
    bounds = [f"at least {case.at_least:g}"] if case.at_least is not None else []
    bounds += [f"at most {case.at_most:g}"] if case.at_most is not None else []
    met = all(verdicts) if verdicts else None
    return without_times(case, met=met, value=float(value), unit=case.unit, bound=" and ".join(bounds))


def without_times(case: Case, **others: Any) -> Figure:
    """A figure of a case that was not timed."""
    import torch

    return Figure(
        name=case.name,
        sizes=case.sizes,
        threads=torch.get_num_threads(),
        ours_us=math.nan,
        spread_us=math.nan,
        peer=case.peer,
        peer_us=None,
        ratio=None,
        target=case.target,
        limit_us=case.limit_us,
        **others,
    )


def calls_per_timing(call: Callable[[], Any], warm_up: int) -> int:
    """Warm up, then choose how many calls make a timing of about 2 ms."""
    for _ in range(warm_up):
        call()
    once = timed(call, 1)
    return max(1, int(2000 / max(once, 0.1)))


def timed(call: Callable[[], Any], loops: int) -> float:
    """Microseconds per call over `loops` calls; waits for a GPU."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(loops):
        call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / loops * 1e6


def measure_all(cases: Iterable[Case], on_figure: Callable[[Figure], None] | None = None) -> list[Figure]:
    """Measure cases in order, reporting each as it is done."""
    figures = []
    for case in cases:
        try:
            figure = measure(case)
        except (RecurraError, ImportError, RuntimeError) as error:
            figure = not_measured(case, error)
        figures.append(figure)
        if on_figure:
            on_figure(figure)
    return figures


def not_measured(case: Case, error: Exception) -> Figure:
    """A row that says why a case cannot run here, so that the others are not lost."""
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return without_times(case, met=None, error=reason[0])


def as_rows(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """Plain dictionaries for `--json`; what is not a number is None."""
    return [
        {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in row.items()}
        for row in map(asdict, figures)
    ]
