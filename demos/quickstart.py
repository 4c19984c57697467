"""`recurra quickstart`: every finished pipeline once on embedded data, one table, one report page."""

import base64
import html
import io
import sys
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from core.domains import domains
from core.errors import MissingExtraError, RecurraError
from core.files import write_text
from demos.places import places


@dataclass(frozen=True)
class Section:
    """What one pipeline shows: a sentence, a table, pictures."""

    title: str
    what: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    figures: list[tuple[str, str]] = field(default_factory=list)
    """Caption and PNG as base64."""
    command: str = ""


def run(out: Path, seed: int) -> list[str]:
    """Run the pipelines, write `out/report.html`; returns the table for the terminal.

    Raises:
        MissingExtraError: the packages of the demos are not installed.
        RecurraError: the folder cannot be written.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
    except ImportError as error:
        raise MissingExtraError('the report needs matplotlib: pip install "recurra[demos]".') from error
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecurraError(f"{out}: cannot be made ({error.strerror}).") from error
    sections, lines = [], []
    found, known = places("section"), domains()
    for number, (name, module) in enumerate(found.items(), 1):
        print(f"[{number}/{len(found)}] {name}: {known[name].summary}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        section = import_module(module).section(seed)
        seconds = time.perf_counter() - start
        print(f"      done in {seconds:.1f} s", file=sys.stderr, flush=True)
        sections.append(section)
        lines += [f"{section.title} ({seconds:.1f} s)", *aligned(section.head, section.rows), ""]
    report = out / "report.html"
    write_text(report, page(sections))
    return [*lines, f"{report}"]


def png(figure: Any) -> str:
    """A figure as base64 text."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def aligned(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """A table for the terminal."""
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    return [
        "  "
        + row[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in table
    ]


def page(sections: list[Section]) -> str:
    """The report: one HTML file with everything inside."""
    parts = []
    for section in sections:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in section.head)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in section.rows
        )
        figures = "".join(
            f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            for caption, data in section.figures
        )
        parts.append(
            f"<section><h2>{html.escape(section.title)}</h2><p>{html.escape(section.what)}</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"{figures}<pre>{html.escape(section.command)}</pre></section>"
        )
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}"
        "td,th{padding:.25rem .8rem;border-bottom:1px solid #e5e7eb;text-align:right}"
        "td:first-child,th:first-child{text-align:left}tbody tr:first-child{font-weight:600;color:#0f6b5c}"
        "img{max-width:100%}figure{margin:1.5rem 0}figcaption{color:#6b7280}"
        "pre{background:#f3f4f6;padding:.8rem;overflow:auto}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Recurra</title>'
        f"<style>{style}</style></head><body><h1>Recurra</h1>"
        "<p>Each pipeline ran once on embedded data with its bundled weights.</p>"
        f"{''.join(parts)}</body></html>\n"
    )
