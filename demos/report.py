"""The report of quickstart: one HTML file with everything inside, for light, dark and paper."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field

from demos.markup import Stat, card, picture, stat_row, table
from demos.theme import DARK_VARIABLES, LIGHT_VARIABLES, sheet


@dataclass(frozen=True)
class Section:
    """What one pipeline shows: a question, its figures, pictures, the table behind them."""

    title: str
    question: str
    """Such as "Where will it be?"."""
    what: str
    """On what it ran and how it is measured, in a sentence or two."""
    stats: tuple[Stat, ...]
    """Three to five figures, ours first; it and the first that is not ours stand on the card in the head."""
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    ours: str | None = None
    """First cell of the row in bold."""
    compare: str | None = None
    """First cell of the row to compare it with."""
    pictures: list[tuple[str, str]] = field(default_factory=list)
    """Markup (`demos.plots.svg` or `png`) and caption."""
    command: str = ""
    """What to try next."""
    links: tuple[tuple[str, str], ...] = ()
    """Words and the place in the repository, such as ("Card of the weights", "apps/.../README.md")."""


@dataclass(frozen=True)
class Missing:
    """A pipeline that could not run here, with the sentence that says why and the way out."""

    title: str
    why: str


Part = tuple[str, Section | Missing, float]
"""Word of the pipeline, what it shows, seconds that it took."""


def report(parts: Sequence[Part], facts: Sequence[str]) -> str:
    """The whole page: head with facts of the run, a card per pipeline, then each in full.

    Args:
        facts: date, version, machine, total time, in words.
    """
    cards = "".join(head_card(*part) for part in parts)
    sections = "".join(full(*part) for part in parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Recurra: report</title>'
        f"<style>{style()}</style></head><body><header><h1>Recurra</h1>"
        f"<p>{html.escape(' · '.join(facts))}</p></header>"
        "<main><p>Each pipeline ran once on embedded data with its bundled weights.</p>"
        f'<div class="r-cards">{cards}</div>{sections}</main>'
        f"<script>{sheet('copy.js')}</script></body></html>\n"
    )


def style() -> str:
    """The style sheet: colours by the reader's mode, light on paper."""
    return (
        f":root{{color-scheme:light dark;{LIGHT_VARIABLES}}}"
        f"@media(prefers-color-scheme:dark){{:root{{{DARK_VARIABLES}}}}}"
        f"@media print{{:root{{{LIGHT_VARIABLES}}}}}{sheet('parts.css')}{sheet('report.css')}"
    )


def head_card(word: str, part: Section | Missing, seconds: float) -> str:
    """A card that links down; a grey one for what could not run."""
    if isinstance(part, Missing):
        return card(part.title, "did not run", note=part.why)
    ours, *others = part.stats
    beside = next((stat for stat in others if not stat.ours), None)
    note = ours.label if beside is None else f"{ours.label}; {beside.label}: {beside.value}"
    return card(part.title, part.question, ours.value, note, href=f"#{word}")


def full(word: str, part: Section | Missing, seconds: float) -> str:
    """Question, stat row, pictures, table, command and links of one pipeline."""
    if isinstance(part, Missing):
        return (
            f'<section id="{html.escape(word, quote=True)}"><h2>{html.escape(part.title)}</h2>'
            f"<p>{html.escape(part.why)}</p></section>"
        )
    pictures = "".join(picture(markup, caption) for markup, caption in part.pictures)
    links = " · ".join(
        f'<a href="{html.escape(place, quote=True)}">{html.escape(words)}</a>' for words, place in part.links
    )
    tried = (
        f'<div class="r-try"><pre class="r-code" tabindex="0">{html.escape(part.command)}</pre>'
        '<button type="button" data-copy>Copy</button></div>'
        if part.command
        else ""
    )
    return (
        f'<section id="{html.escape(word, quote=True)}"><h2>{html.escape(part.question)}</h2>'
        f'<p class="r-note">{html.escape(part.title)}, {seconds:.1f} s. {html.escape(part.what)}</p>'
        f"{stat_row(part.stats)}{pictures}{table(part.head, part.rows, part.ours, part.compare)}{tried}"
        f'<p class="r-note">{links}</p></section>'
    )
