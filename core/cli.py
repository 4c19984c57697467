"""The command `recurra`: what is signed in, imported only when asked for, and the core's own verbs."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from core.domains import COMMANDS, DOMAINS, Signed, domain, usable
from core.errors import Ended, RecurraError, SignInError, UnfinishedWarning, WorkError
from core.terminal import Json, Threads, emit, say, say_all
from core.text import shown

__all__ = ["app", "emit", "main", "run_app"]


LONGEST = 1200
"""Characters of an error: a file may have names of a megabyte."""


class Roof(TyperGroup):
    """Lists what is signed in without importing pipelines; imports one when it is used."""

    def list_commands(self, ctx: typer.Context) -> list[str]:
        verbs = super().list_commands(ctx)
        return [*usable(DOMAINS), *verbs, *(name for name in usable(COMMANDS) if name not in verbs)]

    def format_help(self, ctx: typer.Context, formatter: Any) -> None:
        ctx.meta["only_listing"] = True
        super().format_help(ctx, formatter)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:
        verb = super().get_command(ctx, cmd_name)
        if verb is not None:
            return verb
        for group, load in ((DOMAINS, load_domain), (COMMANDS, load_command)):
            row = usable(group).get(cmd_name)
            if row is not None:
                return TyperGroup(name=cmd_name, help=line(group, row)) if listing(ctx) else load(row)
        return None


def listing(ctx: typer.Context) -> bool:
    """Whether a command is asked for its help line only."""
    return bool(ctx.meta.get("only_listing"))


def line(group: str, row: Signed) -> str:
    """One sentence for the help. What strangers signed in is named and not imported."""
    if not row.ours:
        return f"From the package {row.distribution}."
    try:
        return domain(row.name).summary if group == DOMAINS else row.load().__doc__ or ""
    except SignInError:
        return "Cannot be loaded; `recurra doctor` says why."


def load_domain(row: Signed) -> Any:
    """The commands of a pipeline."""
    target = domain(row.name).commands
    return as_command(row, Signed(row.name, target, row.distribution, ours=row.ours).load())


def load_command(row: Signed) -> Any:
    """A single command."""
    return as_command(row, row.load())


def as_command(row: Signed, found: Any) -> Any:
    """A command from a Typer, a command as it is, or a function.

    Raises:
        SignInError: it is none of these.
    """
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    if hasattr(found, "invoke") and hasattr(found, "make_context"):
        return found
    if not callable(found):
        raise SignInError(
            f"{row.name!r} of the package {row.distribution}: {row.target} is {type(found).__name__}, "
            "not a command."
        )
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(row.name)(found)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=Roof,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Recurrent networks that train in parallel and run step by step.\n\nExample: recurra units gru",
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
    json_path: Json = None,
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
    check: Annotated[
        str | None,
        typer.Option(metavar="MODULE:CLASS", help="Run the contract battery on a unit."),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Measure steps and training of all.")] = False,
    json_path: Json = None,
) -> None:
    """List the recurrent units: paper, modes, state size; or one unit with its equations.

    Examples: recurra units gru; recurra units --compare; recurra units --check my_package.unit:Unit
    """
    from core.catalogue import broken, describe, table, table_lines

    if check is not None:
        from core.battery.report import examined

        emit(*examined(check, json_path))
        return
    if compare:
        from core.bench.compare import compared, compared_lines

        rows = compared([name] if name else None, width)
        emit({"width": width, "units": rows}, json_path, compared_lines(rows, width))
        return
    if name is None:
        rows = table(width)
        say_all(broken(width))
        emit({"width": width, "units": rows}, json_path, table_lines(rows, width))
    else:
        about = describe(name, width)
        emit(about, json_path, [about["text"]])


@app.command()
def models(
    json_path: Json = None,
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
    areas: Annotated[list[str], typer.Argument(help="What to measure: core, or a pipeline.")],
    only: Annotated[str | None, typer.Option(help="Only cases whose name contains this.")] = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Measure speed beside a peer or the hardware's ceiling, in one run.

    Example: recurra bench core --json figures.json
    """
    from core.bench.areas import run

    figures, report = run(areas, only, 1 if threads is None else threads, progress=say)
    emit(report, json_path, figures)


def run_app(application: typer.Typer) -> None:
    """Run a command-line application. Ends with 0; 2 words, settings or input; 1 failed work; 130 Ctrl-C."""
    try:
        with warnings.catch_warnings(), unwinding():
            warnings.showwarning = in_a_sentence(warnings.showwarning)
            application()
    except RecurraError as error:
        if os.environ.get("RECURRA_DEBUG"):
            raise
        print(f"{type(error).__name__}: {shown(in_options(str(error)), LONGEST)}", file=sys.stderr)
        sys.exit(1 if isinstance(error, WorkError) else 2)
    except BrokenPipeError:  # the reader of our output went away, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt as wish:
        stop(wish)
    except SystemExit as ended:  # typer makes one of its own out of Ctrl-C
        cause = getattr(ended.__context__, "__cause__", None)
        if not isinstance(cause, KeyboardInterrupt):
            raise
        stop(cause)


@contextmanager
def unwinding() -> Iterator[None]:
    """Inside, a wish to end (SIGTERM of a cluster, a closed terminal) unwinds: half a file is removed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Ended(f"stopped by {signal.Signals(number).name}.", number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def in_a_sentence(show: Callable[..., None]) -> Callable[..., None]:
    """How a warning that is meant for people is shown: without the line of code it comes from."""

    def shown(message: Any, category: type[Warning], *about: Any, **more: Any) -> None:
        if issubclass(category, UnfinishedWarning):
            say(in_options(str(message)))
        else:
            show(message, category, *about, **more)

    return shown


def in_options(text: str) -> str:
    """What the library says of its arguments, in the words of a command."""
    return text.replace("resume=True", "--resume").replace("choose another folder", "choose another --out")


def stop(wish: KeyboardInterrupt) -> None:
    """End with 128 and the signal, 130 for Ctrl-C; a training says what it kept."""
    if str(wish):
        print(shown(in_options(str(wish))), file=sys.stderr)
    sys.exit(128 + getattr(wish, "signal", signal.SIGINT))


def main() -> None:
    """Entry point of the command `recurra`."""
    run_app(app)
