"""The hub: one page with a tab per pipeline, or one pipeline alone. Everything runs offline."""

import os
import socket
import tempfile
from importlib import import_module
from typing import Any

from core.errors import ConfigError, MissingExtraError

PAGES = {"trajectory": ("demos.trajectory", "Trajectory")}
"""Word on the command line -> module with `build() -> gr.Blocks`, and the tab's title."""

UPLOAD_LIMIT = "20mb"
QUEUE = 16


def build(name: str | None) -> Any:
    """The page of one pipeline, or the hub.

    Raises:
        ConfigError: no such page.
        MissingExtraError: the packages of the demos are not installed.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # gradio reads this when it is imported: uploads then lie in a folder of this process alone
    os.environ.setdefault("GRADIO_TEMP_DIR", tempfile.mkdtemp(prefix="recurra-demo-"))
    if name is not None:
        return page(name)
    import gradio as gr

    titles = [title for _, title in PAGES.values()]
    pages = [page(key) for key in PAGES]
    with gr.Blocks(title="Recurra", analytics_enabled=False) as hub:
        gr.Markdown(
            "# Recurra\nRecurrent networks that train in parallel and run step by step, on this machine."
        )
        for title, blocks in zip(titles, pages, strict=True):
            with gr.Tab(title):
                blocks.render()
    return hub


def page(name: str) -> Any:
    """The blocks of one pipeline's page."""
    if name not in PAGES:
        raise ConfigError(f"no demo called {name!r}; there is {', '.join(PAGES)}.")
    try:
        return import_module(PAGES[name][0]).build()
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'the demo {name} needs the package {error.name}: pip install "recurra[demos]".'
        ) from error


def launch(blocks: Any, host: str = "127.0.0.1", port: int | None = None, browser: bool = False) -> str:
    """Start serving without blocking; returns the address.

    Uploads go to a folder of this process alone, are limited in size, and no file of the machine can be
    read through the page: no path is allowed beyond what the page itself made.

    Raises:
        ConfigError: the port is taken.
    """
    from demos.theme import CSS, theme

    try:
        _, url, _ = blocks.queue(max_size=QUEUE, default_concurrency_limit=1).launch(
            server_name=host,
            server_port=port if port is not None else free_port(host),
            theme=theme(),
            css=CSS,
            inbrowser=browser,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            max_file_size=UPLOAD_LIMIT,
        )
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error}.") from error
    return url


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def serve(name: str | None, host: str, port: int | None, browser: bool) -> None:
    """Serve a page, or the hub, until interrupted."""
    blocks = build(name)
    print(f"{launch(blocks, host, port, browser)}  (Ctrl-C stops)", flush=True)
    blocks.block_thread()
