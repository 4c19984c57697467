"""`make fuzz SECONDS=600`: every reader of every pipeline, so long; what fails is shrunk, kept, and told.

An input is a function of (seed, reader, number): `--only READER --number N` replays one. Findings lie in
`tests/fuzz/found/<reader>/` and are read by the ordinary tests from then on. With `--count FILE` a run goes
on where the last one ended and the table is that of all of them; readers that have taken the fewest of the
inputs that are asked of each (`--each`) come first.
"""

import argparse
import gc
import hashlib
import json
import os
import sys
import tempfile
import time
import warnings
from dataclasses import asdict
from pathlib import Path

from core.files import write_text
from core.report import table
from tests.fuzz.domains import readers
from tests.fuzz.reader import Reader, drawn
from tests.fuzz.shrink import shrunk
from tests.fuzz.worker import Child, Told, tried

FOUND = Path(__file__).parent / "found"
KEPT = 3
"""Findings of one kind that are kept."""
TURN = 20.0
"""Seconds of one child; then the reader that has fallen behind takes its place."""


def kind_of(wrong: str) -> str:
    """A finding without its numbers: the kind and the place."""
    parts = wrong.split(":")
    return f"{parts[0]}:{parts[1].split(' ')[0]}" if len(parts) > 2 else wrong[:40]


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


def counted(path: Path | None, chosen: list[Reader]) -> dict[str, Told]:
    """What earlier runs have told."""
    kept = json.loads(path.read_text()) if path is not None and path.exists() else {}
    return {reader.name: Told(**kept.get(reader.name, {})) for reader in chosen}


def count(path: Path | None, totals: dict[str, Told]) -> None:
    """Store what all runs have told; readers of other runs stay."""
    if path is not None:
        kept = json.loads(path.read_text()) if path.exists() else {}
        write_text(path, json.dumps(kept | {name: asdict(told) for name, told in totals.items()}, indent=1))


def fuzz(
    chosen: list[Reader], totals: dict[str, Told], words: argparse.Namespace
) -> tuple[dict[str, list[str]], bool]:
    """Take inputs until the time is over or all have theirs; findings by kind, and whether all have."""
    kinds: dict[str, list[str]] = {}
    end, written = time.monotonic() + words.seconds, time.monotonic()
    at_work: dict[str, Child] = {}
    start = {name: max(words.begin, told.inputs) for name, told in totals.items()}

    def behind(reader: Reader) -> float:
        return totals[reader.name].inputs / words.each

    try:
        while True:
            waiting = sorted((r for r in chosen if r.name not in at_work and behind(r) < 1), key=behind)
            left = end - time.monotonic()
            while waiting and len(at_work) < words.workers and left > 0:
                reader = waiting.pop(0)
                most = words.each - totals[reader.name].inputs
                begin = start[reader.name]
                at_work[reader.name] = Child(reader, words.seed, begin, min(TURN, left), most)
            if not at_work:
                return kinds, not waiting
            time.sleep(0.02)
            for name, child in list(at_work.items()):
                part, alive = child.told()
                totals[name].add(part)
                start[name] = child.next
                if not alive:
                    del at_work[name]
                for number, wrong in part.findings:
                    seen = kinds.setdefault(f"{name}: {kind_of(wrong)}", [])
                    if len(seen) < KEPT:
                        path = keep(child.reader, drawn(child.reader, words.seed, number), wrong)
                        seen.append(f"{path.relative_to(FOUND)} (number {number}): {wrong}")
                        print(f"{name}: {wrong}", file=sys.stderr, flush=True)
            if time.monotonic() > written + 10:
                written = time.monotonic()
                count(words.count, totals)
    finally:
        for child in at_work.values():
            child.end()
        count(words.count, totals)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="wall clock for all readers together")
    parser.add_argument("--only", default="", help="readers whose name contains this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--begin", type=int, default=0, help="number of the first input")
    parser.add_argument("--each", type=int, default=50_000, help="inputs that are asked of every reader")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--count", type=Path, help="file of counts over several runs")
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
    totals = counted(words.count, chosen)
    warnings.simplefilter("ignore")
    for reader in chosen:  # what is loaded and compiled once is not an input's cost
        with tempfile.TemporaryDirectory() as folder:
            tried(reader, drawn(reader, words.seed, -1), os.path.join(folder, f"input{reader.suffix}"))
    gc.collect()
    gc.freeze()
    kinds, complete = fuzz(chosen, totals, words)
    head = ["reader", "inputs", "a CPU s", "accepted", "slowest, CPU s", "largest, MB", "findings"]
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
    inputs = sum(told.inputs for told in totals.values())
    rows.append(["all", f"{inputs:,}", "", "", "", "", str(sum(len(t.findings) for t in totals.values()))])
    print("\n".join(table(head, rows)))
    print(f"{words.each:,} of every reader: {'all have them' if complete else 'not yet'}.")
    for kind, seen in kinds.items():
        print(f"\n{kind}")
        for line in seen:
            print(f"  {line}")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
