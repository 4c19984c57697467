"""The HTML that pages, hub and report share: stat row, table, card. Every text that comes in is escaped."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from core.report import html_table


@dataclass(frozen=True)
class Stat:
    """One figure of a stat row: the value large, what it is below it."""

    value: str
    label: str
    ours: bool = False
    """The model's own figures are coloured and stand first."""
    colour: str | None = None
    """A patch before the label: the colour that this one has in the pictures, which then need no legend."""


def stat_row(stats: Sequence[Stat]) -> str:
    """Three to five figures side by side."""
    cells = ""
    for stat in stats:
        patch = f'<i style="background:{html.escape(stat.colour, quote=True)}"></i>' if stat.colour else ""
        cells += (
            f'<div class="r-stat{" r-mine" if stat.ours else ""}"><dt>{patch}{html.escape(stat.label)}</dt>'
            f"<dd>{html.escape(stat.value)}</dd></div>"
        )
    return f'<dl class="r-stats">{cells}</dl>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], ours: str | None = None, compare: str | None = None
) -> str:
    """A table of words and figures.

    Args:
        ours: first cell of the row in bold.
        compare: first cell of the row to compare it with, which is marked.
    """
    names = [row[0] for row in rows]
    strong = [index for index, name in enumerate(names) if name == ours]
    beside = [index for index, name in enumerate(names) if name == compare]
    # a region that scrolls must be reachable by keyboard
    return (
        '<div class="r-wide" tabindex="0" role="region" aria-label="Table of figures">'
        f"{html_table(head, rows, strong, beside)}</div>"
    )


def picture(markup: str, caption: str = "") -> str:
    """A picture (SVG or `<img>` markup) with its caption."""
    words = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="r-picture">{markup}{words}</figure>'


def card(
    title: str, text: str, figure: str = "", note: str = "", href: str | None = None, drawn: str = ""
) -> str:
    """A card of the hub or the report's head.

    Args:
        figure: the one measured figure.
        note: what it is compared with.
        href: where the card leads; None makes a grey card, whose note says the way out.
        drawn: markup of a small picture.
    """
    inside = f'<div class="r-picture">{drawn}</div>' if drawn else ""
    inside += f"<b>{html.escape(title)}</b>"
    inside += f'<span class="r-figure">{html.escape(figure)}</span>' if figure else ""
    inside += f"<small>{html.escape(note)}</small>" if note else ""
    inside += f"<span>{html.escape(text)}</span>"
    if href is None:
        return f'<div class="r-card r-grey">{inside}</div>'
    return f'<a class="r-card" href="{html.escape(href, quote=True)}">{inside}</a>'
