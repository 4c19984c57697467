"""`python -m tests.core.gpu [--json FILE] [--seconds N] [--only TEXT,TEXT] [--bench]`: a line for each proof.

With --bench the GPU rows of `recurra bench core` are measured before the batteries, or at the text bench.
Without CUDA and with TRITON_INTERPRET=1 the kernels run in triton's interpreter on the CPU.
"""

import argparse
import json
import time
import traceback
from pathlib import Path
from typing import Any

import torch


def main() -> int:
    words = argparse.ArgumentParser()
    words.add_argument("--json", type=Path)
    words.add_argument("--seconds", type=float, default=3600)
    words.add_argument("--only", default="", help="what has one of these texts in its name, in their order")
    words.add_argument("--bench", action="store_true")
    asked = words.parse_args()
    began = time.monotonic()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    card = torch.cuda.get_device_name() if device == "cuda" else "no GPU"
    print(f"torch {torch.__version__} on {card}", flush=True)
    from tests.core.gpu.proofs import proofs

    rows: list[dict[str, Any]] = []
    report = {"torch": torch.__version__, "card": card, "rows": rows}

    def left() -> float:
        return asked.seconds - (time.monotonic() - began)

    def keep() -> None:
        if asked.json:
            asked.json.write_text(json.dumps(report, indent=1))

    def bench() -> None:
        from core.bench.gpu import cases
        from core.bench.runner import as_rows, measure_all

        def shown(figure: Any) -> None:
            found.append(figure)
            report["bench"] = as_rows(found)
            keep()
            times = f"{figure.ours_us:.0f} us beside {figure.peer_us or 0:.0f} us ({figure.peer})"
            ratio = "" if figure.ratio is None else f"ratio {figure.ratio:.3f}"
            print(f"{figure.name} {figure.sizes}: {times} {ratio} {figure.error or ''}", flush=True)

        found: list[Any] = []
        for case in cases():
            slow = case.repeats < 15  # sequences of which a single one takes a second
            if left() < (25 if slow else 8):
                print(f"SKIP {case.name} {case.sizes}", flush=True)
                continue
            measure_all([case], shown)

    failed = 0
    known = proofs()
    first = next(place for place, name in enumerate(known) if name.startswith("battery"))
    order = [*known][:first] + ["bench"] * asked.bench + [*known][first:]
    names = list(dict.fromkeys(name for text in asked.only.split(",") for name in order if text in name))
    if asked.bench and "bench" not in names:
        names.append("bench")
    for name in names:
        if name == "bench":
            bench()
            continue
        proof = known[name]
        if left() < 3:
            rows.append({"name": name, "skipped": True})
            print(f"SKIP {name}", flush=True)
            continue
        start, lines, problem = time.monotonic(), [], ""
        torch.manual_seed(0)
        try:
            for what, error, allowed in proof(device):
                lines.append({"what": what, "error": error, "allowed": allowed})
        except Exception as error:
            problem = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            print(traceback.format_exc(limit=-4), flush=True)
        wrong = [line for line in lines if not line["error"] <= line["allowed"]]
        failed += bool(wrong or problem)
        seconds = time.monotonic() - start
        half = max((line["error"] for line in lines if "autocast" in line["what"]), default=0.0)
        worst = max((line["error"] for line in lines if "autocast" not in line["what"]), default=0.0)
        rows.append({"name": name, "seconds": seconds, "lines": lines, "problem": problem})
        verdict = "ok  " if not wrong and not problem else "FAIL"
        figures = f"{len(lines)} comparisons, worst {worst:.1e}, half {half:.1e}, {seconds:.1f} s"
        print(f"{verdict} {name}: {figures} {problem}", flush=True)
        for line in wrong:
            print(f"       {line['what']}: {line['error']:.2e}, allowed {line['allowed']:.0e}", flush=True)
        keep()
    keep()
    print(f"{failed} of {len(rows)} failed, {time.monotonic() - began:.0f} s", flush=True)
    return int(failed > 0)


raise SystemExit(main())
