"""`recurra demo` and `recurra quickstart`, signed in with the core; what they need is imported when used."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    name: Annotated[
        str | None, typer.Argument(help="One page, by the pipeline's word; the hub when left out.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port; a free one when left out.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Open the web demos, offline.

    Example: recurra demo trajectory
    """
    from demos.serve import serve

    serve(name, host=host, port=port, browser=browser)


def quickstart(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")] = Path("out"),
    seed: Annotated[int, typer.Option(help="Seed of the embedded data.")] = 0,
) -> None:
    """Run every finished pipeline once on embedded data and write out/report.html.

    Example: recurra quickstart --out out
    """
    from demos.quickstart import run

    for line in run(out, seed):
        print(line)
