"""Looks of all pages in one place; local fonts only, so nothing leaves the machine."""

from typing import Any

OURS = "#0f6b5c"
BASELINE = "#8a8f98"
TRUTH = "#1f2937"
TUBE = "rgba(15, 107, 92, 0.16)"
PALETTE = ("#0f6b5c", "#c2571a", "#5b4bb7", "#8a8f98", "#b0326b", "#2d6cc0")

CSS = """
.gradio-container { max-width: 1200px !important; }
.figure-note { color: #6b7280; font-size: 0.9em; }
"""


def theme() -> Any:
    """The gradio theme."""
    import gradio as gr

    return gr.themes.Soft(  # pyright: ignore[reportPrivateImportUsage]
        primary_hue="teal",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
