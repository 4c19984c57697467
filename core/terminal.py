"""What every command shares: its option types, results on stdout, remarks and progress on stderr."""

import dataclasses
import os
import sys
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import typer

from core.errors import ConfigError, MissingExtraError
from core.files import check_folder_place, check_place, write_text
from core.text import in_json, shown

MOST_REMARKS = 20
"""Remarks that are shown; the rest is counted."""
MOST_THREADS = max(64, 4 * (os.cpu_count() or 1))
"""More would only wait for each other, and at some number no machine can start them."""


def checked_place(value: str | None) -> str | None:
    """The place of a result, looked at before the work: a typo must not cost an hour."""
    if value is not None and value != "-":
        check_place(value)
    return value


def checked_file(value: Path | None) -> Path | None:
    """The file of a result, likewise."""
    checked_place(None if value is None else str(value))
    return value


def checked_folder(value: Path | None) -> Path | None:
    """The folder of many results, likewise; it need not be there."""
    if value is not None:
        check_folder_place(value)
    return value


def target(text: str, *names: str) -> Any:
    """The option of a file that is written, `-o` if it has no name; it is looked at before the work."""
    return typer.Option(*(names or ("-o", "--out")), callback=checked_file, help=text)


def application(text: str) -> typer.Typer:
    """The commands of a domain, with its text of help."""
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        help=text,
    )


Json = Annotated[
    str | None,
    typer.Option("--json", callback=checked_place, help="Write the result as JSON here; - is stdout."),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="What to write: a file, or a folder for many inputs.")]
OUTPUTS = typer.Option("-o", "--out", help="File, or folder for many inputs.")
"""Of commands that mirror their inputs: `core.jobs.mirror` looks at the place, when it knows them."""
OutFile = Annotated[Path, target("File to write.")]
OutFolder = Annotated[Path, typer.Option("-o", "--out", callback=checked_folder, help="Folder to write.")]
RunFolder = Annotated[Path, typer.Option("-o", "--out", callback=checked_folder, help="Run folder.")]
Weights = Annotated[
    str | None, typer.Option("--weights", help="Bundled name, weights file or run folder. Default: bundled.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
SetSeed = Annotated[
    int | None, typer.Option("--seed", help="Seed of everything random; short for --set seed=.")
]
Start = Annotated[
    str | None, typer.Option("--start", help="Weights to go on from: bundled name, weights file or run.")
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=MOST_THREADS, help="CPU threads; as many as there are by default."),
]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu, cuda or cuda:N; cpu when left out, auto takes a GPU.")
]
Read = Annotated[
    list[str] | None, typer.Option("--read", help="A setting of the reader, as key=value; may be repeated.")
]
Sets = Annotated[list[str] | None, typer.Option("--set", help="A setting, such as model.unit=lstm.")]
Config = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
Split = Annotated[
    str | None, typer.Option("--split", help="Rows of an index with this split; all when left out.")
]
"""Types of options: `def predict(files: ..., weights: Weights = None, json_path: Json = None)`."""


def speaks() -> bool:
    """Whether this process tells of a work that several processes do together: the first of them does."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return True
    return distributed.get_rank() == 0


def say(text: str) -> None:
    """A remark for people, on stderr beside the result."""
    if not speaks():
        return
    print(shown(text), file=sys.stderr, flush=True)


def say_all(remarks: Iterable[str], most: int = MOST_REMARKS) -> None:
    """Remarks for people; of many the first `most`, and how many more there are."""
    found = list(remarks)
    for text in found[:most]:
        say(text)
    if len(found) > most:
        say(f"... and {len(found) - most} more remarks like these.")


def emit(result: Any, json_path: str | Path | None, lines: Sequence[str]) -> None:
    """Print lines for people, or write JSON where `--json` says (`-` is stdout, then lines stay silent).

    Numbers that are not finite become null.
    """
    if not speaks():
        return
    if json_path is None:
        print(shown("\n".join(lines)))
        return
    text = in_json(result, 2)
    if str(json_path) == "-":
        print(text)
        return
    write_text(json_path, text + "\n")
    print(shown("\n".join(lines)))


def put(text: str, end: str = "\n") -> None:
    """A piece of the result on stdout, while the work goes on."""
    if speaks():
        print(text, end=end, flush=True)


def set_threads(threads: int | None) -> None:
    """CPU threads of torch and of the compiled loops; None leaves them.

    Raises:
        ConfigError: more threads than a machine can have.
    """
    if threads is None:
        return
    if not 1 <= threads <= MOST_THREADS:
        raise ConfigError(f"threads must be 1 to {MOST_THREADS}, got {threads}.")
    import torch

    torch.set_num_threads(threads)


def device(name: str | None) -> Any:
    """The torch device of `--device`: cpu when left out; "auto" is the GPU if there is one.

    Raises:
        ConfigError: no such kind of device, or this machine does not have it.
    """
    import torch

    if name is None:
        return torch.device("cpu")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"no device {name!r}: it is cpu, cuda, cuda:N or auto.") from error
    if found.type not in ("cpu", "cuda"):
        raise ConfigError(f"no device {name!r}: it is cpu, cuda, cuda:N or auto.")
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= count:
            raise ConfigError(f"no device {name!r} here: this machine has {count} of them.")
    return found


Reader = TypeVar("Reader")


def reader_options(defaults: Reader, words: Sequence[str] | None) -> Reader:
    """The reader's settings, a frozen dataclass, with the words of `--read key=value` put in.

    Lists are separated by commas (`group=kind,id`), and so are pairs (`columns=t=time,x=px`).

    Raises:
        ConfigError: no such setting, or a value of the wrong type; the message lists what there is.
    """
    from core.config import convert, describe, replace, toml_value

    hints = get_type_hints(type(defaults))
    values: dict[str, Any] = {}
    for word in words or ():
        key, equals, text = word.partition("=")
        key, text = key.strip().replace("-", "_"), text.strip()
        if not equals or not key:
            raise ConfigError(f"--read wants key=value, such as {next(iter(hints))}=...; got {word!r}.")
        if key not in hints:
            replace(defaults, {key: text})  # names the settings that there are
        kinds = [kind for kind in get_args(hints[key]) or (hints[key],) if kind is not type(None)]
        whole = kinds[0] if isinstance(hints[key], types.UnionType) or len(kinds) == 1 else hints[key]
        origin = get_origin(whole) or whole
        if isinstance(origin, type) and issubclass(origin, Mapping):
            values[key] = pairs(f"--read {key}", text)
        elif isinstance(origin, type) and issubclass(origin, Sequence) and origin is not str:
            values[key] = tuple(part.strip() for part in text.split(","))
        else:
            try:
                values[key] = convert(toml_value(text), hints[key], key)
            except ConfigError:
                try:
                    values[key] = convert(text, hints[key], key)
                except ConfigError:
                    raise ConfigError(f"--read {key} must be {describe(hints[key])}, got {text!r}.") from None
    return dataclasses.replace(defaults, **values)  # pyright: ignore[reportArgumentType]


def pairs(option: str, text: str) -> dict[str, str]:
    """`a=b,c=d` as a dictionary.

    Raises:
        ConfigError: it is not made of such pairs.
    """
    found = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and equals and value.strip() for name, equals, value in found):
        raise ConfigError(f"{option} wants name=value pairs, such as t=time,x=px; got {text!r}.")
    return {name.strip(): value.strip() for name, _, value in found}


def need(extra: str, *modules: str) -> None:
    """Make sure that the packages of an extra are here before the work begins.

    Raises:
        MissingExtraError: one is not; the message says how to get it.
    """
    from importlib.util import find_spec

    for module in modules:
        try:
            there = find_spec(module) is not None
        except (ImportError, ValueError):
            there = False
        if not there:
            name = module.partition(".")[0]
            raise MissingExtraError(f'this needs the package {name}: pip install "recurra[{extra}]".')


Item = TypeVar("Item")


@contextmanager
def progress(what: str, total: int | None = None, *, quiet: bool = False) -> Iterator[Any]:
    """A bar on stderr where that is a terminal: `with progress("files", 10) as step: step()`."""
    if quiet or not sys.stderr.isatty():
        yield lambda count=1: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(shown(what), total=total)
        yield lambda count=1: bar.advance(task, count)


def watched(items: Sequence[Item], what: str, *, quiet: bool = False) -> Iterator[Item]:
    """The items, with a bar on stderr that counts them."""
    with progress(what, len(items), quiet=quiet) as step:
        for item in items:
            yield item
            step()
