"""Numbers and tables for people, in a terminal and in HTML."""

import html
import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = "-"


def number(value: Any, digits: int = 2, unit: str = "") -> str:
    """A number with so many digits behind the point; unknown is a dash."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.{digits}f}{unit and ' ' + unit}"


def percent(share: Any, digits: int = 1) -> str:
    """A share of one in percent."""
    return number(None if share is None else 100 * share, digits, "%")


def whole(value: Any) -> str:
    """A count with its thousands marked."""
    return UNKNOWN if value is None else f"{value:,}"


def seconds(value: float | None) -> str:
    """A span of time, as large as it is."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if value >= scale or unit == "us":
            return f"{value / scale:.3g} {unit}" if value < 120 else f"{value / 60:.1f} min"
    return UNKNOWN


def with_interval(figures: Mapping[str, Any], name: str, digits: int = 2) -> str:
    """A figure with its interval, as `name`, `name_low` and `name_high` hold them: 1.20 [1.10, 1.31]."""
    text = number(figures.get(name), digits)
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    return text if low is None or high is None else f"{text} [{number(low, digits)}, {number(high, digits)}]"


def width(text: str) -> int:
    """Columns that a text takes in a terminal: wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, indent: int = 2) -> list[str]:
    """Lines of a table for a terminal: the first `left` columns to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(width(row[column]) for row in cells) for column in range(len(head))]
    lines = []
    for row in cells:
        parts = []
        for column, text in enumerate(row):
            gap = " " * (widths[column] - width(text))
            parts.append(text + gap if column < left else gap + text)
        lines.append(" " * indent + "  ".join(parts).rstrip())
    return lines


def html_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], strong: Sequence[int] = (), beside: Sequence[int] = ()
) -> str:
    """A table in HTML. `strong` are the rows of ours, `beside` those to compare with."""
    first = "".join(f'<th scope="col">{html.escape(str(text))}</th>' for text in head)
    body = []
    for index, row in enumerate(rows):
        name = "r-ours" if index in strong else "r-beside" if index in beside else ""
        cells = [f"<td>{html.escape(str(text))}</td>" for text in row[1:]]
        lead = f'<th scope="row">{html.escape(str(row[0]))}</th>'
        body.append(f'<tr class="{name}">' if name else "<tr>")
        body.append(f"{lead}{''.join(cells)}</tr>")
    return f"<table><thead><tr>{first}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def scores(
    report: Mapping[str, Any], figures: Mapping[str, str], digits: int = 3, model: str = "model"
) -> tuple[list[str], list[list[str]]]:
    """Head and rows for the common shape of `evaluate --json`: the model, then each baseline.

    Args:
        report: {"n", "model": {figure: number}, "baselines": {name: {figure: number}}, ..}.
        figures: figure -> what stands above its column.
        model: what the model is called.
    """
    head = [f"n = {report['n']:,}", *figures.values()]
    rows = [[model, *(with_interval(report["model"], name, digits) for name in figures)]]
    for name, row in report.get("baselines", {}).items():
        rows.append([name.replace("_", " "), *(with_interval(row, figure, digits) for figure in figures)])
    return head, rows
