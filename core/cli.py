"""The command `recurra`: a table of domains, imported only when asked for, and the core's own verbs."""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from core.errors import RecurraError
from core.files import write_text

DOMAINS = {
    "trajectory": ("apps.trajectory.cli:app", "Predict where drones and other movers will be."),
}
"""Word on the command line -> where its commands live, and one sentence for the help."""


class DomainTable(TyperGroup):
    """Lists the domains without importing them; imports one when it is used."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        return [*DOMAINS, *super().list_commands(ctx)]

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:
        ctx.meta["only_listing"] = True
        super().format_help(ctx, formatter)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:
        if cmd_name not in DOMAINS:
            return super().get_command(ctx, cmd_name)
        target, summary = DOMAINS[cmd_name]
        if ctx.meta.get("only_listing"):
            return TyperGroup(name=cmd_name, help=summary)
        module, attribute = target.split(":")
        return typer.main.get_command(getattr(import_module(module), attribute))


app = typer.Typer(
    cls=DomainTable,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Recurrent networks that train in parallel and run step by step.\n\n"
    "Example: recurra trajectory predict flight.csv",
)


@app.callback()
def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an expected failure.")
    ] = False,
) -> None:
    if debug:
        os.environ["RECURRA_DEBUG"] = "1"


@app.command()
def doctor(
    json_path: Annotated[
        str | None, typer.Option("--json", help="Write the findings here; - is stdout.")
    ] = None,
) -> None:
    """Tell whether this machine is ready: versions, threads, GPU, optional packages.

    Example: recurra doctor --json -
    """
    from core.doctor import examine, lines

    findings = examine()
    emit(findings, json_path, lines(findings))


@app.command()
def units(
    name: Annotated[str | None, typer.Argument(help="Show one unit in full.")] = None,
    width: Annotated[int, typer.Option(help="Width for the counts of parameters and state.")] = 64,
    json_path: Annotated[
        str | None, typer.Option("--json", help="Write the table here; - is stdout.")
    ] = None,
) -> None:
    """List the recurrent units: paper, modes, state size; or one unit with its equations.

    Example: recurra units gru
    """
    from core.catalogue import describe, table, table_lines

    if name is None:
        rows = table(width)
        emit({"width": width, "units": rows}, json_path, table_lines(rows, width))
    else:
        about = describe(name, width)
        emit(about, json_path, [about["text"]])


@app.command()
def models(
    json_path: Annotated[
        str | None, typer.Option("--json", help="Write the table here; - is stdout.")
    ] = None,
) -> None:
    """List the bundled weights: task, size, score, data and its terms.

    Example: recurra models
    """
    from core.catalogue import model_lines
    from core.weights import bundled

    rows = bundled()
    emit({"models": rows}, json_path, model_lines(rows))


@app.command()
def bench(
    areas: Annotated[list[str], typer.Argument(help="What to measure: core, trajectory.")],
    only: Annotated[str | None, typer.Option(help="Only cases whose name contains this.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    json_path: Annotated[
        str | None, typer.Option("--json", help="Write the figures here; - is stdout.")
    ] = None,
) -> None:
    """Measure speed beside a peer or the hardware's ceiling, in one run.

    Example: recurra bench core trajectory --json figures.json
    """
    from core.bench.areas import run

    figures, report = run(
        areas, only, threads, progress=lambda line: print(line, file=sys.stderr, flush=True)
    )
    emit(report, json_path, figures)


@app.command()
def demo(
    name: Annotated[
        str | None, typer.Argument(help="One page, such as trajectory; the hub when left out.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port; a free one when left out.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Open the web demos, offline.

    Example: recurra demo trajectory
    """
    from demos.launcher import serve

    serve(name, host=host, port=port, browser=browser)


@app.command()
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


def emit(result: Any, json_path: str | None, lines: list[str]) -> None:
    """Print lines for people, or write JSON where `--json` says (`-` is stdout, then lines stay silent)."""
    if json_path == "-":
        print(json.dumps(result, indent=2, allow_nan=False))
        return
    print("\n".join(lines))
    if json_path is not None:
        write_text(json_path, json.dumps(result, indent=2, allow_nan=False) + "\n")


def run_app(application: typer.Typer) -> None:
    """Run a command-line application: expected failures are one line on stderr and exit code 2."""
    try:
        application()
    except RecurraError as error:
        if os.environ.get("RECURRA_DEBUG"):
            raise
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output went away, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


def main() -> None:
    """Entry point of the command `recurra`."""
    run_app(app)
