"""`recurra ocr`: read, train, evaluate, simulate."""

from pathlib import Path
from typing import Annotated

import typer

from core.terminal import (
    OUTPUTS,
    Config,
    Device,
    Json,
    OutFolder,
    Quiet,
    Resume,
    RunFolder,
    Seed,
    Sets,
    SetSeed,
    Split,
    Start,
    Threads,
    Weights,
    application,
    target,
)

app = application(
    "Read handwriting from lines, digit strings and pages.\n\n"
    "Example: recurra ocr read page.jpg --task page --format alto -o page.xml"
)

Task = Annotated[str, typer.Argument(help="lines or digits.")]


@app.command()
def read(
    inputs: Annotated[list[str], typer.Argument(help="Images, folders, globs, or - for a list on stdin.")],
    task: Annotated[str, typer.Option(help="lines, digits or page.")] = "lines",
    form: Annotated[str, typer.Option("--format", help="text, json, jsonl, alto, page or hocr.")] = "text",
    out: Annotated[Path | None, OUTPUTS] = None,
    weights: Weights = None,
    lm: Annotated[
        str | None, typer.Option("--lm", help="Character model: a file, or none. Default: the weights' own.")
    ] = None,
    lm_weight: Annotated[float | None, typer.Option(help="Weight of the character model.")] = None,
    beam: Annotated[int | None, typer.Option(min=1, max=1000, help="Prefixes that are kept.")] = None,
    allow: Annotated[str | None, typer.Option(help="Only these characters.")] = None,
    deny: Annotated[str | None, typer.Option(help="None of these characters.")] = None,
    regex: Annotated[str | None, typer.Option(help="The text matches this expression.")] = None,
    digits: Annotated[int | None, typer.Option(help="The text is so many digits.")] = None,
    choices: Annotated[Path | None, typer.Option(help="File of texts, one a line; the text is one.")] = None,
    lexicon: Annotated[Path | None, typer.Option(help="File of words; every word is one of them.")] = None,
    alternatives: Annotated[int, typer.Option(min=0, max=100, help="Other texts to give.")] = 0,
    rtl: Annotated[bool, typer.Option("--rtl", help="Lines of a page run from right to left.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what is written already.")] = False,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Read images and write their text; folders mirror their tree and go on after a bad image.

    Confidence is the calibrated chance that a character (or, for a line, the whole text) is right.

    Example: recurra ocr read letters/ --task page --format alto -o out/
    """
    from vision.ocr.reading import Request, read_all

    request = Request(
        task=task,
        form=form,
        weights=weights,
        lm=lm,
        lm_weight=lm_weight,
        beam=beam,
        allow=allow,
        deny=deny,
        regex=regex,
        digits=digits,
        choices=choices,
        lexicon=lexicon,
        alternatives=alternatives,
        right_to_left=rtl,
        device=device,
        threads=threads,
    )
    read_all(inputs, out, request, resume=resume, quiet=quiet)


@app.command()
def evaluate(
    task: Annotated[str, typer.Argument(help="lines, digits or page.")],
    files: Annotated[list[str], typer.Argument(help="Index CSV; for pages ALTO or PAGE files.")],
    weights: Weights = None,
    json_path: Json = None,
    split: Split = None,
    lm: Annotated[str | None, typer.Option("--lm", help="Character model: a file, or none.")] = None,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Score weights on labelled data; every row counts.

    Example: recurra ocr evaluate lines data/lines/index.csv --split test --json report.json
    """
    from core.terminal import device as device_of
    from core.terminal import emit, set_threads
    from vision.ocr.scoring import page_report, text_report

    set_threads(threads)
    if task == "page":
        report, lines = page_report(files, weights, device=device_of(device))
    else:
        report, lines = text_report(task, files, weights, split=split, lm=lm, device=device_of(device))
    emit(report, json_path, lines)


@app.command()
def train(
    task: Task,
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Index CSVs or folders of pictures with .gt.txt; none: the generator."),
    ] = None,
    out: RunFolder = Path("runs/ocr"),
    digits: Annotated[
        Path | None, typer.Option(help="Folder of idx files (MNIST) to compose digit strings from.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Plan the epochs for so many minutes and stop by the clock.")
    ] = None,
    start: Start = None,
    config: Config = None,
    sets: Sets = None,
    seed: SetSeed = None,
    device: Device = None,
    threads: Threads = None,
    resume: Resume = False,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Train a network on files and generated examples.

    Example: recurra ocr train lines data/lines/index.csv --out runs/lines --set loop.epochs=40
    """
    from core.config import resolve
    from core.terminal import device as device_of
    from core.terminal import emit, set_threads
    from vision.ocr.config import defaults
    from vision.ocr.train import train as run

    set_threads(threads)
    settings = resolve(defaults(task), config, sets, seed=seed)
    outcome = run(
        settings,
        out,
        data or [],
        digits=digits,
        minutes=minutes,
        start=start,
        device=device_of(device),
        resume=resume,
        quiet=quiet,
    )
    emit(outcome.as_dict(), json_path, outcome.lines())


@app.command()
def simulate(
    task: Task,
    out: OutFolder,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many.")] = 100,
    digits: Annotated[Path | None, typer.Option(help="Folder of idx files to compose from.")] = None,
    part: Annotated[
        str, typer.Option("--from", help="Digits of the set to draw from: train, or test (the last 5,000).")
    ] = "test",
    shortest: Annotated[int, typer.Option(min=1, help="Fewest digits.")] = 2,
    longest: Annotated[int, typer.Option(min=1, max=60, help="Most digits.")] = 10,
    show: Annotated[bool, typer.Option("--show", help="Also write a sheet of examples.")] = False,
    seed: Seed = 0,
) -> None:
    """Write generated lines or digit strings with their index.

    Example: recurra ocr simulate digits -o strings --digits data/digits --count 500 --seed 1
    """
    from vision.ocr.simulate import write_set

    written = write_set(task, out, count, digits, part, shortest, longest, seed, show=show)
    print(f"{written}: {count} {task}")


@app.command()
def convert(
    inputs: Annotated[list[str], typer.Argument(help="ALTO, PAGE or JSON files, folders or globs.")],
    form: Annotated[str, typer.Option("--format", help="text, json, alto, page or hocr.")],
    out: Annotated[Path, OUTPUTS],
) -> None:
    """Write pages in another format without reading them again.

    Example: recurra ocr convert pages/*.xml --format hocr -o out/
    """
    from vision.ocr.converting import convert_all

    convert_all(inputs, form, out)


@app.command()
def segment(
    inputs: Annotated[list[str], typer.Argument(help="Page images, folders or globs.")],
    out: Annotated[Path, OUTPUTS],
    form: Annotated[str, typer.Option("--format", help="json, alto or page.")] = "alto",
    rtl: Annotated[bool, typer.Option("--rtl", help="Lines run from right to left.")] = False,
) -> None:
    """Find the lines of pages and their reading order, without reading them.

    Example: recurra ocr segment scans/ --format page -o lines/
    """
    from vision.ocr.converting import segment_all

    segment_all(inputs, form, out, right_to_left=rtl)


@app.command()
def align(
    image: Annotated[Path, typer.Argument(help="Image of one line.")],
    text: Annotated[str, typer.Argument(help="What it says.")],
    weights: Weights = None,
    json_path: Json = None,
) -> None:
    """Where each character of a known text stands in a line.

    Example: recurra ocr align line.png "Ceci est mon testament" --json boxes.json
    """
    from core.terminal import emit
    from vision.ocr.converting import aligned

    line = aligned(image, text, weights)
    rows = [f"{c.x0_px:7.1f} {c.x1_px:7.1f}  {c.confidence:.2f}  {c.text}" for c in line.chars]
    emit(line.as_dict(), json_path, rows)


lm = typer.Typer(no_args_is_help=True, add_completion=False, help="Character models: train, score.")
app.add_typer(lm, name="lm")


@lm.command("train")
def lm_train(
    texts: Annotated[list[Path], typer.Argument(help="Text files, a line of writing a line.")],
    out: Annotated[Path, target("Model to write; .arpa is ARPA text.")],
    order: Annotated[int, typer.Option(min=1, max=10, help="Longest n-gram.")] = 6,
) -> None:
    """Train an interpolated modified Kneser-Ney model of characters.

    Example: recurra ocr lm train letters.txt -o letters.npz --order 6
    """
    from vision.ocr.converting import train_model

    print(train_model(texts, out, order))


@lm.command("score")
def lm_score(
    model: Annotated[Path, typer.Argument(help="Model of `lm train`, or ARPA.")],
    texts: Annotated[list[Path], typer.Argument(help="Text files.")],
) -> None:
    """Perplexity per character, ends of lines counted.

    Example: recurra ocr lm score letters.npz other.txt
    """
    from vision.ocr.converting import perplexity

    print(f"{perplexity(model, texts):.3f}")
