"""`recurra ocr`: read, train, evaluate, simulate."""

from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import ConfigError
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
)
from vision.ocr import cli_files
from vision.ocr.cli_words import (
    Allow,
    Alternatives,
    CharModel,
    Choices,
    Deny,
    Jobs,
    Lexicon,
    Regex,
    Report,
    Segmenter,
    SoManyDigits,
    UnknownWord,
    WordSearch,
    WordText,
    WordWeight,
    begin,
)

app = application(
    "Read handwriting from lines, digit strings and pages.\n\n"
    "Example: recurra ocr read page.jpg --task page --format alto -o page.xml"
)
app.registered_commands += cli_files.app.registered_commands
app.registered_groups += cli_files.app.registered_groups

TaskWord = Annotated[str, typer.Argument(help="lines or digits.")]
Trained = Annotated[str, typer.Argument(help="lines, digits, pen or segment.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Stop where an image is missing; else it is named and left out.")
]
Made = Annotated[str, typer.Argument(help="lines, digits or pen.")]


@app.command()
def read(
    inputs: Annotated[
        list[str], typer.Argument(help="Images, folders, globs, a CSV with a column image, or - for a list.")
    ],
    task: Annotated[str, typer.Option(help="lines, digits or page.")] = "lines",
    form: Annotated[
        str, typer.Option("--format", help="text, json, jsonl, csv, alto, page, hocr or pdf.")
    ] = "text",
    out: Annotated[Path | None, OUTPUTS] = None,
    weights: Weights = None,
    lm: CharModel = None,
    lm_weight: Annotated[float | None, typer.Option(help="Weight of the character model.")] = None,
    beam: Annotated[int | None, typer.Option(min=1, max=1000, help="Prefixes that are kept.")] = None,
    allow: Allow = None,
    deny: Deny = None,
    regex: Regex = None,
    digits: SoManyDigits = None,
    choices: Choices = None,
    lexicon: Lexicon = None,
    words: WordSearch = "words",
    word_text: WordText = None,
    word_weight: WordWeight = 1.0,
    unknown_word: UnknownWord = None,
    alternatives: Alternatives = 0,
    segmenter: Segmenter = None,
    rtl: Annotated[bool, typer.Option("--rtl", help="Lines of a page run from right to left.")] = False,
    rotate: Annotated[
        str, typer.Option(help="Turn pages clockwise by 0, 90, 180 or 270 degrees; auto finds it.")
    ] = "auto",
    jobs: Jobs = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what is written already.")] = False,
    device: Device = None,
    threads: Threads = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json_path: Report = None,
) -> None:
    """Read images and write their text; folders mirror their tree and go on after a bad image.

    Confidence is the calibrated chance that a character (or, for a line, the whole text) is right.

    Example: recurra ocr read letters/ --task page --format alto -o out/
    """
    from vision.ocr.reading import Request, read_all

    begin(threads, seed)
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
        words=words,
        word_text=word_text,
        word_weight=word_weight,
        unknown_word=unknown_word,
        alternatives=alternatives,
        segmenter=segmenter,
        right_to_left=rtl,
        rotate=rotate,
        device=device,
        threads=threads,
    )
    read_all(inputs, out, request, resume=resume, quiet=quiet, jobs=jobs, report=json_path)


@app.command()
def evaluate(
    task: Annotated[str, typer.Argument(help="lines, digits, page or pen.")],
    files: Annotated[
        list[str], typer.Argument(help="Index CSV; for pages ALTO or PAGE files, for pens stroke files.")
    ],
    weights: Weights = None,
    json_path: Json = None,
    split: Split = None,
    lm: CharModel = None,
    segmenter: Segmenter = None,
    jobs: Jobs = 1,
    device: Device = None,
    threads: Threads = None,
    seed: Seed = 0,
) -> None:
    """Score weights on labelled data; every row counts.

    Example: recurra ocr evaluate lines data/lines/index.csv --split test --json report.json
    """
    from core.terminal import device as device_of
    from core.terminal import emit
    from vision.ocr.scoring import page_report, text_report

    begin(threads, seed)
    if task == "pen":
        from vision.ocr.pen.score import report as pen_report

        report, lines = pen_report(files, weights)
    elif task == "page":
        report, lines = page_report(files, weights, segmenter=segmenter, device=device_of(device), jobs=jobs)
    else:
        how: dict[str, Any] = {"split": split, "lm": lm, "device": device_of(device), "seed": seed}
        report, lines = text_report(task, files, weights, **how)
    emit(report, json_path, lines)


@app.command()
def train(
    task: Trained,
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Index CSVs, folders of pictures with .gt.txt, ALTO or PAGE; none: generator."),
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
    strict: Strict = False,
    resume: Resume = False,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Train a network on files and generated examples.

    Example: recurra ocr train lines data/lines/index.csv --out runs/lines --set loop.epochs=40
    """
    from core.config import resolve
    from core.terminal import device as device_of
    from core.terminal import emit
    from vision.ocr.config import defaults
    from vision.ocr.training import train as run

    begin(threads)
    if task in ("pen", "segment") and (digits is not None or strict):
        raise ConfigError(f"--digits and --strict are of lines and digits, not of {task}.")
    if task == "segment" and start is not None:
        raise ConfigError("--start is of lines, digits and pen, not of segment.")
    about: dict[str, Any] = {
        "device": device_of(device),
        "minutes": minutes,
        "resume": resume,
        "quiet": quiet,
    }
    if task == "pen":
        from vision.ocr.pen.train import PenConfig, train_pen

        settings = resolve(PenConfig(), config, sets, seed=seed)
        outcome = train_pen(settings, out, data or [], start=start, **about)
    elif task == "segment":
        from vision.ocr.segmentation.training import SegmentConfig, train_segmenter

        outcome = train_segmenter(resolve(SegmentConfig(), config, sets, seed=seed), out, data or [], **about)
    else:
        settings = resolve(defaults(task), config, sets, seed=seed)
        outcome = run(settings, out, data or [], digits=digits, start=start, strict=strict, **about)
    emit(outcome.as_dict(), json_path, outcome.lines())


@app.command("fine-tune")
def fine_tune(
    data: Annotated[list[str], typer.Argument(help="As for train.")],
    weights: Annotated[str, typer.Option("--weights", help="Bundled name, weights file or run folder.")],
    out: RunFolder = Path("runs/ocr-fine"),
    codec: Annotated[
        str, typer.Option(help="Characters: add new ones, union (sorted), keep, or new (those of the data).")
    ] = "add",
    freeze: Annotated[str | None, typer.Option(help="cnn: leave the convolutions as they are.")] = None,
    new_extractor: Annotated[
        bool, typer.Option("--new-extractor", help="Go on though lines were cut by another version.")
    ] = False,
    sets: Sets = None,
    seed: SetSeed = None,
    device: Device = None,
    threads: Threads = None,
    strict: Strict = False,
    resume: Resume = False,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Train weights further on own lines; the characters that come and go are listed before the first step.

    Example: recurra ocr fine-tune mine/ --weights ocr-lines --codec add --out runs/mine
    """
    from core.config import resolve
    from core.terminal import device as device_of
    from core.terminal import emit
    from vision.ocr.finetune import fine_tune as run
    from vision.ocr.finetune import settings_for

    begin(threads)
    outcome = run(
        resolve(settings_for(weights), None, sets, seed=seed),
        weights,
        out,
        data,
        codec=codec,
        freeze=freeze,
        new_extractor=new_extractor,
        strict=strict,
        device=device_of(device),
        resume=resume,
        quiet=quiet,
    )
    emit(outcome.as_dict(), json_path, outcome.lines())


@app.command()
def simulate(
    task: Made,
    out: OutFolder,
    count: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many.")] = 100,
    digits: Annotated[Path | None, typer.Option(help="Folder of idx files to compose from.")] = None,
    part: Annotated[
        str, typer.Option("--from", help="Digits of the set to draw from: train, or test (the last 5,000).")
    ] = "test",
    shortest: Annotated[int, typer.Option(min=1, help="Fewest digits.")] = 2,
    longest: Annotated[int, typer.Option(min=1, max=60, help="Most digits.")] = 10,
    fonts: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of the lines that is set in fonts installed here.")
    ] = 0.0,
    texts: Annotated[
        list[Path] | None, typer.Option("--text", help="Text file whose words the lines are made of.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Also write a sheet of examples.")] = False,
    seed: Seed = 0,
    json_path: Json = None,
) -> None:
    """Write generated lines or digit strings with their index.

    Example: recurra ocr simulate digits -o strings --digits data/digits --count 500 --seed 1
    """
    from core.terminal import emit
    from vision.ocr.reading import listed
    from vision.ocr.simulate import write_set

    if task != "lines" and (fonts or texts):
        raise ConfigError(f"--fonts and --text are of lines, not of {task}.")
    said = [text for path in texts or [] for text in listed(path)]
    written = write_set(
        task, out, count, digits, part, shortest, longest, seed, texts=said, fonts=fonts, show=show
    )
    emit({"index": str(written), "n": count}, json_path, [f"{written}: {count} {task}"])
