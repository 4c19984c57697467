"""One style for plots: a plotly template for the pages, matplotlib for pictures in pages, report and README.

The model is ours-green and thick, the truth black, baselines grey or thin. A matplotlib picture becomes SVG
whose ink, green, soft words and hair lines are the variables of `demos.theme`: it follows light and dark.
"""

import base64
import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from demos.theme import FONTS, LINE, OURS, PALETTE, SOFT, TRUTH

TEMPLATE = "recurra"
MOST_POINTS = 25_000
"""Points of a 3-D scene: more of them make a phone's browser slow."""
VARIABLES = {OURS: "var(--r-ours)", TRUTH: "var(--r-ink)", SOFT: "var(--r-soft)", LINE: "var(--r-line)"}


def template() -> str:
    """Name of the plotly template, made on first use: `figure.update_layout(template=template())`."""
    import plotly.graph_objects as go
    import plotly.io as pio

    if TEMPLATE not in pio.templates:
        axis = {"gridcolor": LINE, "zeroline": False, "linecolor": LINE, "ticks": "", "automargin": True}
        plane = {
            "backgroundcolor": "rgba(0,0,0,0)",
            "gridcolor": "#b4bcc5",
            "zeroline": False,
            "showspikes": False,
            "color": "#7a828c",
            "title": {"font": {"size": 11}},
        }
        pio.templates[TEMPLATE] = go.layout.Template(
            layout={
                "paper_bgcolor": "rgba(0,0,0,0)",
                "plot_bgcolor": "rgba(0,0,0,0)",
                "font": {"family": ", ".join(FONTS), "size": 12, "color": SOFT},
                "title": {
                    "font": {"size": 13, "color": TRUTH},
                    "x": 0.015,
                    "xref": "container",
                    "xanchor": "left",
                },
                "hovermode": "x unified",
                "margin": {"l": 48, "r": 12, "t": 34, "b": 40},
                "colorway": list(PALETTE),
                "xaxis": axis,
                "yaxis": axis,
                "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
                "scene": {"xaxis": plane, "yaxis": plane, "zaxis": plane},
            }
        )
    return TEMPLATE


@contextmanager
def drawing(width: float = 7.0, height: float = 4.2) -> Iterator[tuple[Any, Any]]:
    """A matplotlib figure and its axes in the style of the house; closed when the block ends."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from cycler import cycler

    style: Any = {
        "font.family": "sans-serif",
        "font.size": 10,
        "svg.fonttype": "none",
        "svg.hashsalt": "recurra",
        "axes.edgecolor": LINE,
        "axes.labelcolor": SOFT,
        "axes.titlecolor": TRUTH,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlesize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=list(PALETTE)),
        "grid.color": LINE,
        "grid.linewidth": 0.8,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "text.color": SOFT,
        "legend.frameon": False,
        "lines.solid_capstyle": "round",
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(width, height))
        try:
            yield figure, axes
        finally:
            plt.close(figure)


def svg(figure: Any, alt: str) -> str:
    """A matplotlib figure as SVG that follows light and dark; `alt` says in words what it shows."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, variable)
    fonts = ", ".join(FONTS)  # matplotlib names its own list at every word
    text = re.sub(r"font: ((?:\S+ )*?[\d.]+px) [^;\"]*", rf"font: \1 {fonts}", text)
    label = html.escape(alt, quote=True)
    return re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', opening(label), text, count=1, flags=re.DOTALL)


def opening(label: str) -> Any:
    """Replaces the first tag: no fixed size, a role and a name."""

    def replaced(found: re.Match[str]) -> str:
        width = float(found[1].split()[2])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{found[1]}" style="width:{width * 4 / 3:.0f}px;max-width:100%" '
            f'role="img" aria-label="{label}">'
        )

    return replaced


def png(figure: Any, alt: str, dpi: int = 110) -> str:
    """A matplotlib figure as an `<img>` with everything inside, for pictures of many points."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return image(buffer.getvalue(), alt)


def image(data: bytes, alt: str, kind: str = "png") -> str:
    """The bytes of a picture as an `<img>`."""
    return f'<img alt="{html.escape(alt, quote=True)}" src="{address(data, kind)}">'


def address(data: bytes, kind: str = "png") -> str:
    """The bytes of a picture as an address that holds them."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def thinned(count: int, most: int = MOST_POINTS) -> slice:
    """A slice that takes at most `most` of `count` points, evenly."""
    return slice(None, None, max(1, -(-count // most)))
