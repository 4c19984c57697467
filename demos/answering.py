"""What every page does with its result: it is there when the page opens, and again when a control moves."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr


def answers(
    page: gr.Blocks,
    show: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    moved: Sequence[Any],
    *,
    word: str,
    name: str,
    js: str | None = None,
) -> None:
    """Run `show` when the page opens and after each event of `moved`; of many, the newest counts.

    Args:
        word: of the page; its queue.
        name: of the function for programs, which no other page has.
        js: what the browser says of itself first.
    """
    queue: dict[str, Any] = {"show_progress": "minimal", "concurrency_id": word, "js": js}
    page.load(show, inputs, outputs, api_visibility="private", **queue)
    gr.on(moved, show, inputs, outputs, api_name=name, trigger_mode="always_last", **queue)
