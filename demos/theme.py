"""Looks of the hub, the pages and the report in one place: colours, the gradio theme, the style sheet.

Fonts are named, never fetched. Own HTML carries classes with the prefix `r-`, since gradio has rules for
plain names such as `.card`. Colours that change between light and dark are CSS variables (`--r-ours`, ...).
"""

from importlib.resources import files
from typing import Any

OURS, OURS_DARK = "#0f6b5c", "#4ab39f"
"""The model, on light and on dark."""
TRUTH, TRUTH_DARK = "#1f2937", "#e6eaee"
"""What happened."""
BASELINE = "#8a8f98"
"""Whom the model is compared with."""
SOFT, SOFT_DARK = "#57606a", "#a3adb8"
"""Words beside the figures."""
LINE, LINE_DARK = "#e4e8ec", "#2a323c"
"""Hair lines and borders."""
SECOND, SECOND_DARK = "#c2571a", "#e08a4f"
THIRD, THIRD_DARK = "#5b4bb7", "#a79bf0"
"""What is told apart from ours: the best rival, another talker, a pedestrian."""
DOUBT, DOUBT_DARK = "#8a5a00", "#e3ab4c"
POOR, POOR_DARK = "#b3261e", "#ff8f85"
"""Words of which the model is less and least sure."""
PALETTE = (OURS, "#c2571a", "#5b4bb7", BASELINE, "#b0326b", "#2d6cc0")
"""Ours first; the rest for what is told apart."""
FONTS = ("Inter", "system-ui", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

LIGHT_VARIABLES = (
    f"--r-ours:{OURS};--r-ink:{TRUTH};--r-soft:{SOFT};--r-line:{LINE};--r-page:#f7f8f9;--r-box:#fff;"
    f"--r-second:{SECOND};--r-third:{THIRD};--r-doubt:{DOUBT};--r-poor:{POOR};"
)
DARK_VARIABLES = (
    f"--r-ours:{OURS_DARK};--r-ink:{TRUTH_DARK};--r-soft:{SOFT_DARK};--r-line:{LINE_DARK};"
    f"--r-page:#11161c;--r-box:#171d24;"
    f"--r-second:{SECOND_DARK};--r-third:{THIRD_DARK};--r-doubt:{DOUBT_DARK};--r-poor:{POOR_DARK};"
)


def sheet(name: str) -> str:
    """A style sheet or script of `demos/style`."""
    return (files("demos") / "style" / name).read_text(encoding="utf-8")


def css() -> str:
    """The style sheet of every page."""
    return f":root{{{LIGHT_VARIABLES}}}.dark{{{DARK_VARIABLES}}}{sheet('parts.css')}{sheet('pages.css')}"


def theme() -> Any:
    """The gradio theme."""
    import gradio as gr

    themes: Any = gr.themes  # pyright: ignore[reportPrivateImportUsage]
    primary = themes.Color(
        name="recurra",
        c50="#effaf7",
        c100="#d6f1ea",
        c200="#aee2d6",
        c300="#7ccdbc",
        c400=OURS_DARK,
        c500="#1f8a77",
        c600=OURS,
        c700="#0d574b",
        c800="#0c463d",
        c900="#0a3a33",
        c950="#052420",
    )
    base = themes.Base(
        primary_hue=primary,
        secondary_hue=primary,
        neutral_hue="slate",
        radius_size=themes.sizes.radius_sm,
        font=list(FONTS),
        font_mono=list(MONO),
    )
    return base.set(
        body_background_fill="#f7f8f9",
        body_background_fill_dark="#11161c",
        block_background_fill="#ffffff",
        block_background_fill_dark="#171d24",
        block_border_width="1px",
        block_border_color=LINE,
        block_border_color_dark=LINE_DARK,
        border_color_primary=LINE,
        border_color_primary_dark=LINE_DARK,
        input_border_color="#c9d0d7",
        input_border_color_dark="#3a444f",
        input_background_fill="#ffffff",
        input_background_fill_dark="#11161c",
        block_shadow="none",
        block_shadow_dark="none",
        shadow_drop="none",
        shadow_drop_lg="none",
        input_shadow="none",
        button_primary_shadow="none",
        button_secondary_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color=SOFT,
        block_label_text_color_dark=SOFT_DARK,
        block_label_text_weight="600",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_text_color=SOFT,
        block_title_text_color_dark=SOFT_DARK,
        block_title_text_weight="600",
        body_text_color=TRUTH,
        body_text_color_dark=TRUTH_DARK,
        body_text_color_subdued=SOFT,
        body_text_color_subdued_dark=SOFT_DARK,
        block_info_text_color=SOFT,
        block_info_text_color_dark=SOFT_DARK,
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_text_color="#ffffff",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        link_text_color="*primary_600",
        link_text_color_dark="*primary_400",
    )
