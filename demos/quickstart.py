"""`recurra quickstart`: every finished pipeline once on embedded data, one table, one report page."""

import base64
import html
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import MissingExtraError, RecurraError
from core.files import write_text
from demos.theme import BASELINE, OURS, TRUTH


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
    for number, pipeline in enumerate(PIPELINES, 1):
        print(f"[{number}/{len(PIPELINES)}] {pipeline.__doc__}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        section = pipeline(seed)
        seconds = time.perf_counter() - start
        print(f"      done in {seconds:.1f} s", file=sys.stderr, flush=True)
        sections.append(section)
        lines += [f"{section.title} ({seconds:.1f} s)", *aligned(section.head, section.rows), ""]
    report = out / "report.html"
    write_text(report, page(sections))
    return [*lines, f"{report}"]


def trajectory(seed: int) -> Section:
    """trajectory: where will a drone be? Generated flights that the bundled weights never saw."""
    from apps.trajectory.evaluate import evaluate
    from apps.trajectory.predict import load_model
    from apps.trajectory.synth import generate, recorded

    model = load_model()
    tracks = [recorded(flight) for flight in generate(seed, 40, split="test", duration_s=30.0)]
    report = evaluate(model, tracks)
    overall = report["overall"]
    rows = []
    for name in [key for key in overall if key != "n"]:
        row = overall[name]
        inside = row.get("coverage90", {}).get("1.0")
        cells = [number(row["fde"].get(key)) for key in ("0.5", "1.0", "2.0")]
        rows.append((name, *cells, "" if inside is None else f"{100 * inside:.1f} %"))
    return Section(
        title="Trajectory prediction",
        what=f"{len(tracks)} generated flights, {overall['n']} windows of 2 s of history at 10 Hz. Distance "
        "between predicted and true position in metres, and how often the 90 % ball held the truth at 1 s.",
        head=("method", "0.5 s", "1 s", "2 s", "in 90 % ball"),
        rows=rows,
        figures=[
            ("Predictions along one flight, with their 90 % balls.", flight_picture(model, widest(tracks))),
            ("Error over the horizon.", horizon_picture(overall)),
        ],
        command="recurra trajectory predict flight.csv --horizon 2 -o prediction.json",
    )


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def widest(tracks: list[Any]) -> Any:
    """The track that turns most: it shows more than a straight one."""
    import numpy as np

    def turning(track: Any) -> float:
        steps = np.diff(track.positions[::10, :2], axis=0)
        angle = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        return float(np.abs(np.diff(angle)).sum() * min(np.linalg.norm(np.ptp(track.positions, axis=0)), 40))

    return max(tracks, key=turning)


def flight_picture(model: Any, track: Any) -> str:
    """The flight from above with some predictions."""
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.patches import Circle

    from apps.trajectory.predict import predict_along

    figure, axes = plt.subplots(figsize=(7, 5.5))
    axes.plot(track.positions[:, 0], track.positions[:, 1], color=BASELINE, linewidth=1, label="flight")
    for index, prediction in enumerate(predict_along(track, model, stride=15)[:16]):
        path = np.concatenate([prediction.anchor[None], prediction.mean])
        axes.plot(
            path[:, 0], path[:, 1], color=OURS, linewidth=2, label="predicted 2 s" if not index else None
        )
        axes.plot(*prediction.anchor[:2], ".", color=TRUTH, markersize=5)
        if prediction.radius is not None:
            step = min(9, len(prediction.radius) - 1)
            ball = Circle(tuple(prediction.mean[step, :2]), prediction.radius[step], color=OURS, alpha=0.12)
            axes.add_patch(ball)
    axes.set_aspect("equal")
    axes.set_xlabel("east (m)")
    axes.set_ylabel("north (m)")
    axes.set_title(track.name)
    axes.legend(frameon=False)
    return png(figure)


def horizon_picture(overall: dict[str, Any]) -> str:
    """Final displacement error over the horizon, ours and the baselines."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2))
    for name, row in overall.items():
        if name in ("n", "hold"):
            continue
        known = [(float(key), value) for key, value in row["fde"].items() if value is not None]
        ours = name == "model"
        axes.plot(
            [h for h, _ in known],
            [value for _, value in known],
            marker="o",
            color=OURS if ours else None,
            linewidth=3 if ours else 1,
            alpha=1 if ours else 0.6,
            label=name.replace("_", " "),
            zorder=3 if ours else 2,
        )
    axes.set_xlabel("horizon (s)")
    axes.set_ylabel("error (m)")
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return png(figure)


def png(figure: Any) -> str:
    """A figure as base64 text."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


PIPELINES: tuple[Callable[[int], Section], ...] = (trajectory,)


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
