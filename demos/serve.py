"""Serving pages on this machine: a free port, limits on uploads, no file readable but what a page made."""

import signal
import socket
from typing import Any

from core.domains import domains
from core.errors import ConfigError
from demos.hub import build
from demos.places import places

QUEUE = 16
"""Visitors who wait; the next is told that the page is busy."""
KEPT_S = (600, 3600)
"""Every so many seconds, files that nobody has used for so many are deleted."""


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
    from demos.theme import css, theme

    port = bindable(host, port)
    blocks.delete_cache = KEPT_S
    try:
        _, url, _ = blocks.queue(max_size=QUEUE, default_concurrency_limit=1).launch(
            server_name=host,
            server_port=port,
            theme=theme(),
            css=css(),
            inbrowser=browser,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            max_file_size=f"{upload_mb(name)}mb",
        )
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error}.") from error
    return url


def bindable(host: str, port: int | None) -> int:
    """The port, or a free one for None.

    Raises:
        ConfigError: somebody listens there already, or the address is none of this machine.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port or 0))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"cannot listen on {host}:{port or 0}: {error}.") from error
        return probe.getsockname()[1]


def serve(name: str | None, host: str, port: int | None, browser: bool) -> None:
    """Serve a page, or the hub, until interrupted; told to end, it ends as by Ctrl-C and cleans up."""

    def end(*_: Any) -> None:
        raise KeyboardInterrupt

    for kind in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, kind):
            signal.signal(getattr(signal, kind), end)
    blocks = build(name)
    print(f"{launch(blocks, host, port, browser, name=name)}  (Ctrl-C stops)", flush=True)
    blocks.block_thread()
