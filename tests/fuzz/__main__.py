"""`make fuzz SECONDS=600`: every reader of every pipeline, so long; what fails is shrunk, kept, and told.

An input is a function of (seed, reader, number): `--only READER --number N` replays one. Findings lie in
`tests/fuzz/found/<reader>/` and are read by the ordinary tests from then on.
"""

import argparse
import gc
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

from core.report import table
from tests.fuzz.domains import readers
from tests.fuzz.reader import Reader, drawn
from tests.fuzz.shrink import shrunk
from tests.fuzz.worker import BATCH, Told, forked, tried

FOUND = Path(__file__).parent / "found"
KEPT = 3
"""Findings of one kind that are kept."""


def kind_of(wrong: str) -> str:
    """A finding without its numbers: the kind and the place."""
    return (
        wrong.split(":")[0] + ":" + wrong.split(":")[1].split(" ")[0] if wrong.count(":") > 1 else wrong[:40]
    )


def keep(reader: Reader, data: bytes, wrong: str) -> Path:
    """Shrink an input in place and store it."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = os.path.join(folder, f"input{reader.suffix}")

        def fails(smaller: bytes) -> bool:
            again = tried(reader, smaller, path)[1]
            return again is not None and kind_of(again) == kind_of(wrong)

        if "signal" not in wrong and "native" not in wrong and "MB" not in wrong and fails(data):
            data = shrunk(data, fails)
    folder = FOUND / reader.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(data).hexdigest()[:12]}{reader.suffix}"
    path.write_bytes(data)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="wall clock for all readers together")
    parser.add_argument("--only", default="", help="readers whose name contains this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--begin", type=int, default=0, help="number of the first input")
    parser.add_argument("--number", type=int, help="replay one input and show what it does")
    words = parser.parse_args()
    chosen = [reader for reader in readers() if words.only in reader.name]
    if not chosen:
        print(f"no reader {words.only!r}; there are {', '.join(reader.name for reader in readers())}.")
        return 2
    if words.number is not None:
        data = drawn(chosen[0], words.seed, words.number)
        print(repr(data[:2000]))
        with tempfile.TemporaryDirectory() as folder:
            print(tried(chosen[0], data, os.path.join(folder, f"input{chosen[0].suffix}")))
        return 0
    for reader in chosen:  # what is loaded and compiled once is not an input's cost
        forked_free = drawn(reader, words.seed, -1)
        with tempfile.TemporaryDirectory() as folder:
            tried(reader, forked_free, os.path.join(folder, f"input{reader.suffix}"))
    gc.collect()
    gc.freeze()
    totals = {reader.name: Told() for reader in chosen}
    kinds: dict[str, list[str]] = {}
    shares = sum(reader.share for reader in chosen)
    for reader in chosen:
        told, number = totals[reader.name], words.begin
        end = time.monotonic() + words.seconds * reader.share / shares
        while time.monotonic() < end:
            part = forked(reader, words.seed, range(number, number + BATCH))
            number += max(1, part.inputs)
            for place, wrong in part.findings:
                kind = f"{reader.name}: {kind_of(wrong)}"
                seen = kinds.setdefault(kind, [])
                if len(seen) < KEPT:
                    path = keep(reader, drawn(reader, words.seed, place), wrong)
                    seen.append(f"{path.relative_to(FOUND)} (number {place}): {wrong}")
            told.add(part)
        print(
            f"{reader.name}: {told.inputs:,} inputs, {len(told.findings)} findings",
            file=sys.stderr,
            flush=True,
        )
    rows = [
        [
            name,
            f"{told.inputs:,}",
            f"{told.inputs / max(told.cpu, 1e-9):,.0f}",
            f"{told.accepted / max(told.inputs, 1):.0%}",
            f"{told.slowest:.2f} (number {told.slowest_number})",
            f"{told.largest_mb}",
            str(len(told.findings)),
        ]
        for name, told in totals.items()
    ]
    rows.append(
        [
            "all",
            f"{sum(told.inputs for told in totals.values()):,}",
            "",
            "",
            "",
            "",
            str(sum(len(told.findings) for told in totals.values())),
        ]
    )
    print(
        "\n".join(
            table(
                ["reader", "inputs", "a CPU s", "accepted", "slowest, CPU s", "largest, MB", "findings"], rows
            )
        )
    )
    for kind, seen in kinds.items():
        print(f"\n{kind}")
        for line in seen:
            print(f"  {line}")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
