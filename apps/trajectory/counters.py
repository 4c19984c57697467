"""What happened to the samples of a stream, and how long its answers took."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

MOST_TIMES = 100_000
"""Latencies that are kept for the summary."""


@dataclass
class Counters:
    """What happened to the samples."""

    samples: int = 0
    malformed: int = 0
    duplicate: int = 0
    late: int = 0
    gaps: int = 0
    restarts: int = 0
    strays: int = 0
    jumps: int = 0
    lost: int = 0
    """Packets that the system dropped before they were read."""
    expired: int = 0
    predictions: int = 0
    stale: int = 0
    latency_us: list[float] = field(default_factory=list)
    """Inside `feed`."""
    client_us: list[float] = field(default_factory=list)
    """From a sample's arrival to its written answer."""

    def summary(self) -> dict[str, Any]:
        """Counts, and median and 99th percentile of the step latency in microseconds."""
        counts = {name: value for name, value in vars(self).items() if not name.endswith("_us")}
        for name in ("latency", "client"):
            times = getattr(self, f"{name}_us")
            if times:
                counts[f"{name}_p50_us"] = round(float(np.percentile(times, 50)), 1)
                counts[f"{name}_p99_us"] = round(float(np.percentile(times, 99)), 1)
        return counts
