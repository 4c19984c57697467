"""The hub: one page with a tab per pipeline, or one pipeline alone. Everything runs offline."""

import os
import socket
import tempfile
from importlib import import_module
from typing import Any

from core.domains import domains
from core.errors import ConfigError, MissingExtraError
from demos.places import places

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

    known = domains()
    titles = [known[key].heading for key in places("page")]
    pages = [page(key) for key in places("page")]
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
    modules = places("page")
    if name not in modules:
        raise ConfigError(f"no demo called {name!r}; there is {', '.join(modules)}.")
    try:
        return import_module(modules[name]).build()
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'the demo {name} needs the package {error.name}: pip install "recurra[demos]".'
        ) from error


def upload_mb(name: str | None) -> int:
    """Largest upload: of one page as its pipeline says, of the hub the largest of all."""
    known = domains()
    chosen = [known[name]] if name in known else [known[key] for key in places("page")]
    return max((about.upload_mb for about in chosen), default=20)


def launch(
    blocks: Any,
    host: str = "127.0.0.1",
    port: int | None = None,
    browser: bool = False,
    *,
    name: str | None = None,
) -> str:
    """Start serving without blocking; returns the address. `name` is the page, None the hub.

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
            max_file_size=f"{upload_mb(name)}mb",
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
    print(f"{launch(blocks, host, port, browser, name=name)}  (Ctrl-C stops)", flush=True)
    blocks.block_thread()
