"""Reports of `evaluate` with the lines that people see."""

from collections.abc import Sequence
from typing import Any

from core.errors import ConfigError
from core.report import number, percent, table
from vision.ocr.evaluation import evaluate, evaluate_pages
from vision.ocr.reader import load_reader


def text_report(
    task: str,
    files: Sequence[str],
    weights: str | None,
    *,
    split: str | None = None,
    lm: str | None = None,
    device: Any = "cpu",
    seed: int = 0,
) -> tuple[dict[str, Any], list[str]]:
    """Report on one index of lines or digit strings.

    Raises:
        ConfigError: another task, or more than one index.
    """
    if task not in ("lines", "digits"):
        raise ConfigError(f"no task {task!r}; there are lines, digits, page, pen.")
    if len(files) != 1:
        raise ConfigError(f"evaluate {task} takes one index, got {len(files)}.")
    decoding = None
    if lm is not None:
        decoding = load_reader(weights, task, device=device, lm=False if lm == "none" else lm).decoding
    report = evaluate(task, files[0], weights, split=split, decoding=decoding, device=device, seed=seed)
    rows = [shown("all", report["n"], "model", report["model"])]
    rows += [shown("", report["n"], name, found) for name, found in report["baselines"].items()]
    groups = report["groups"] if len(report["groups"]) > 1 else {}
    for group, part in groups.items():
        rows.append(shown(group, part["n"], "model", part["model"]))
        rows += [shown("", part["n"], name, found) for name, found in part["baselines"].items()]
    head = ["corpus", "n", "reading", "exact", "CER", "95 %", "WER", "ECE"]
    return report, table(head, rows, left=1)


def shown(group: str, n: int, name: str, figures: dict[str, Any]) -> list[str]:
    """One row of the table."""
    low, high = figures.get("cer_low"), figures.get("cer_high")
    span = f"{percent(low)} to {percent(high)}" if low is not None and high is not None else "-"
    return [
        group,
        str(n),
        name,
        percent(figures["string_accuracy"]),
        percent(figures["cer"]),
        span,
        percent(figures["wer"]),
        number(figures.get("ece"), 3),
    ]


def page_report(
    files: Sequence[str],
    weights: str | None,
    *,
    segmenter: str | None = None,
    device: Any = "cpu",
    jobs: int = 1,
) -> tuple[dict[str, Any], list[str]]:
    """Report on pages."""
    report = evaluate_pages(files, weights, segmenter=segmenter, device=device, jobs=jobs)
    rows = []
    for item in report["items"]:
        if "error" in item:
            rows.append([item["page"], item["error"], "", "", "", ""])
            continue
        characters = max(item["characters"], 1)
        rows.append(
            [
                item["page"].rpartition("/")[2],
                str(item["lines"]),
                str(item["found"]),
                str(item["matched"]),
                percent(item["errors"] / characters),
                percent(item["errors_on_given_lines"] / characters),
            ]
        )
    found = report["model"]
    lines = table(["page", "lines", "found", "matched", "CER", "CER on given lines"], rows)
    return report, [
        *lines,
        f"line recall {percent(found['line_recall'])}, precision {percent(found['line_precision'])}, "
        f"CER {percent(found['cer'])} (given lines {percent(report['baselines']['given lines']['cer'])})",
    ]
