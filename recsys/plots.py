"""Pictures of a comparison."""

from pathlib import Path
from typing import Any

from core.errors import MissingExtraError

OURS, BASE, OTHERS = "#0f6b5c", "#1b1f24", ("#c2571a", "#5b4bb7", "#8a8f98", "#b0326b", "#2d6cc0")


def regret_figure(answer: dict[str, Any], most: int = 5) -> Any:
    """Cumulative regret of the best policies of each world beside greedy, as a matplotlib figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError('pictures need matplotlib: pip install "recurra[demos]".') from error
    worlds = answer["worlds"]
    figure = Figure(figsize=(5 * len(worlds), 3.8), layout="constrained")
    plots = figure.subplots(1, len(worlds), squeeze=False)[0]
    for plot, (name, world) in zip(plots, worlds.items(), strict=True):
        rows = world["policies"]
        shown = sorted((key for key in rows if key != "greedy"), key=lambda key: rows[key]["regret"])[:most]
        for number, key in enumerate(["greedy", *shown]):
            curve = rows[key]["curve"]
            ours = key == world["explores_best"]
            color = BASE if key == "greedy" else OURS if ours else OTHERS[number % len(OTHERS)]
            plot.plot(range(1, len(curve) + 1), curve, color=color, linewidth=2.5 if ours else 1.2)
            plot.annotate(
                key,
                (len(curve), curve[-1]),
                xytext=(4, 0),
                textcoords="offset points",
                color=color,
                fontsize=8,
                va="center",
            )
        plot.set_title(f"{name}: best {world['best']}", fontsize=10, loc="left")
        plot.set_xlabel("round")
        plot.set_ylabel("cumulative regret (clicks per user)")
        plot.spines[["top", "right"]].set_visible(False)
        plot.margins(x=0.02)
        plot.set_xlim(right=len(next(iter(rows.values()))["curve"]) * 1.22)
    return figure


def regret_picture(answer: dict[str, Any], path: str | Path) -> None:
    """Write `regret_figure` as PNG."""
    import io

    from core.files import write_bytes

    buffer = io.BytesIO()
    regret_figure(answer).savefig(buffer, format="png", dpi=130)
    write_bytes(path, buffer.getvalue())
