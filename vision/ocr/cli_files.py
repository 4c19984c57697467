"""The commands of `recurra ocr` beside reading and training: formats, lines of pages, models, decoders."""

from pathlib import Path
from typing import Annotated

import typer

from core.terminal import (
    OUTPUTS,
    Device,
    Json,
    Quiet,
    RunFolder,
    Seed,
    Sets,
    SetSeed,
    Threads,
    Weights,
    application,
    target,
)
from vision.ocr.cli_words import (
    Allow,
    Alternatives,
    Choices,
    Deny,
    Jobs,
    Lexicon,
    Regex,
    Report,
    SoManyDigits,
    UnknownWord,
    WordSearch,
    WordText,
    WordWeight,
    begin,
)

app = application("")
"""Its commands are put among those of `vision.ocr.cli`."""


@app.command()
def convert(
    inputs: Annotated[list[str], typer.Argument(help="ALTO, PAGE, hOCR, JSON, text, PDF files or folders.")],
    form: Annotated[str, typer.Option("--format", help="text, json, csv, alto, page, hocr or pdf.")],
    out: Annotated[Path, OUTPUTS],
    jobs: Jobs = 1,
    threads: Threads = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json_path: Report = None,
) -> None:
    """Write pages in another format without reading them again; pdf needs the image beside the file.

    Example: recurra ocr convert pages/*.xml --format hocr -o out/
    """
    from vision.ocr.converting import convert_all

    begin(threads, seed)
    convert_all(inputs, form, out, jobs=jobs, quiet=quiet, report=json_path)


@app.command()
def segment(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Page images, PDFs, folders, globs, a CSV; ALTO or PAGE whose regions are filled."
        ),
    ],
    out: Annotated[Path, OUTPUTS],
    form: Annotated[str, typer.Option("--format", help="json, alto or page.")] = "alto",
    weights: Annotated[
        str | None, typer.Option("--weights", help="A segmenter: kraken's, or of `train segment`.")
    ] = None,
    join: Annotated[
        bool, typer.Option("--join", help="Pieces of a row inside a region of an XML are one line.")
    ] = False,
    rtl: Annotated[bool, typer.Option("--rtl", help="Lines run from right to left.")] = False,
    jobs: Jobs = 1,
    device: Device = None,
    threads: Threads = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json_path: Report = None,
) -> None:
    """Find the lines of pages and their reading order, without reading them.

    Example: recurra ocr segment scans/ --format page -o lines/
    """
    from vision.ocr.converting import segment_all

    begin(threads, seed)
    segment_all(
        inputs,
        form,
        out,
        right_to_left=rtl,
        weights=weights,
        join=join,
        device=device,
        jobs=jobs,
        quiet=quiet,
        report=json_path,
    )


@app.command()
def align(
    image: Annotated[str, typer.Argument(help="Image of one line; or an index CSV, a folder of pairs, XML.")],
    text: Annotated[
        str | None, typer.Argument(help="What the image says; tables and folders know it.")
    ] = None,
    weights: Weights = None,
    jobs: Jobs = 1,
    device: Device = None,
    threads: Threads = None,
    seed: Seed = 0,
    json_path: Json = None,
) -> None:
    """Where each character of a known text stands in a line.

    Example: recurra ocr align line.png "Ceci est mon testament" --json boxes.json
    """
    from core.terminal import device as device_of
    from core.terminal import emit
    from vision.ocr.converting import align as one
    from vision.ocr.converting import align_all, placed

    begin(threads, seed)
    if text is not None:
        line = one(image, text, weights, device=device_of(device)).as_dict()
        emit(line, json_path, placed(line))
        return
    items, failed = align_all(image, weights, device=device, jobs=jobs)
    rows = [row for item in items for row in (item["image"], *placed(item))]
    emit({"items": items}, json_path, rows)
    if failed:
        raise typer.Exit(2)


lm = typer.Typer(no_args_is_help=True, add_completion=False, help="Character models: train, score.")
app.add_typer(lm, name="lm")


@app.command()
def decode(
    file: Annotated[Path, typer.Argument(help="npz: each array (T, V) is a line, of logits or (log-)p.")],
    alphabet: Annotated[
        Path | None,
        typer.Option(help="Characters of the labels from 1, one a line."),
    ] = None,
    weights: Annotated[str | None, typer.Option("--weights", help="Weights whose alphabet it is.")] = None,
    lm_file: Annotated[Path | None, typer.Option("--lm", help="Character model.")] = None,
    lm_weight: Annotated[float, typer.Option(help="Weight of the character model.")] = 0.6,
    lm_bonus: Annotated[float, typer.Option(help="Bonus of a character with it.")] = 1.2,
    beam: Annotated[int, typer.Option(min=1, max=1000, help="Prefixes that are kept.")] = 25,
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
    threads: Threads = None,
    seed: Seed = 0,
    json_path: Json = None,
) -> None:
    """Text of stored log-probabilities through any decoder; label 0 is the blank.

    Example: recurra ocr decode lines.npz --lm french.npz --alternatives 3
    """
    from core.terminal import emit
    from vision.ocr.reading import listed
    from vision.ocr.stored import decoded, decoding_of

    begin(threads, seed)
    how = decoding_of(
        (lm_file, lm_weight, lm_bonus, beam),
        (allow, deny, regex, digits, listed(choices), listed(lexicon)),
        (words, listed(word_text), word_weight, unknown_word),
        alternatives,
    )
    found = decoded(file, how, alphabet, weights)
    emit({"items": found}, json_path, [f"{item['name']}\t{item['text']}" for item in found])


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A published checkpoint, or the folder that holds it.")],
    out: Annotated[Path, target("Weights to write.")],
    layout: Annotated[
        str | None,
        typer.Option(help="kraken, pylaia, htr-best-practices, attentionhtr; else guessed."),
    ] = None,
    alphabet: Annotated[
        Path | None, typer.Option(help="Characters of the labels, one a line, where the checkpoint has none.")
    ] = None,
    json_path: Json = None,
) -> None:
    """Turn a published checkpoint into weights that `read --weights` takes; no code of it is run.

    Example: recurra ocr import htr.mlmodel -o htr.safetensors
    """
    from core.terminal import emit
    from vision.ocr.layouts.published import bring_in

    said = bring_in(file, out, layout, alphabet)
    emit({"weights": str(out), "remarks": said}, json_path, said)


@app.command()
def export(
    out: Annotated[Path, target("graph.onnx, or kraken's .safetensors for a VGSL network.")],
    weights: Weights = None,
    task: Annotated[str, typer.Option(help="lines or digits: whose bundled weights.")] = "lines",
    threads: Threads = None,
    seed: Seed = 0,
    json_path: Json = None,
) -> None:
    """Write a network as ONNX, compared with the network at another width, or as a file of kraken.

    Example: recurra ocr export -o lines.onnx
    """
    from core.terminal import emit
    from vision.ocr.export import export_file

    begin(threads, seed)
    said = export_file(out, weights, task)
    emit({"file": str(out), "remarks": said}, json_path, said)


@app.command()
def study(
    what: Annotated[str, typer.Argument(help="units or shares.")],
    data: Annotated[list[str], typer.Argument(help="Lines, as for train.")],
    out: RunFolder = Path("runs/study"),
    only: Annotated[str | None, typer.Option(help="Names with commas, such as lstm,gru or 0,50.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of every training.")] = 1500,
    sets: Sets = None,
    device: Device = None,
    threads: Threads = None,
    seed: SetSeed = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Compare units, or shares of generated lines, at equal steps: validation CER and speed.

    Example: recurra ocr study units data/lines/index.csv --only lstm,gru,min_gru
    """
    from core.config import resolve
    from core.terminal import device as device_of
    from core.terminal import emit
    from vision.ocr.config import defaults
    from vision.ocr.study import shown
    from vision.ocr.study import study as run

    begin(threads)
    names = tuple(name.strip() for name in (only or "").split(",") if name.strip())
    config = resolve(defaults("lines"), None, sets, seed=seed)
    rows = run(
        what, data, out, names=names, steps=steps, config=config, device=device_of(device), quiet=quiet
    )
    emit({"items": [row.as_dict() for row in rows]}, json_path, shown(what, rows))


@app.command()
def models(
    settings: Annotated[
        str | None, typer.Option(help="Print the TOML that these weights were trained with, for --config.")
    ] = None,
    json_path: Json = None,
) -> None:
    """Bundled weights with language, period, score, data and terms; or how some of them were trained.

    Example: recurra ocr models --settings ocr-lines > lines.toml
    """
    if settings is not None:
        from core.config import to_toml
        from core.training.folder import without_none
        from core.weights import find, load

        card = load(find(settings))[1]
        print(f"# {settings}: {card.data}")
        print(to_toml(without_none(card.settings)), end="")
        return
    from core.bundled import bundled
    from core.report import table
    from core.terminal import emit

    found = [row for row in bundled() if str(row.get("task", "")).startswith("ocr")]
    told = ("name", "language", "period", "score")
    rows = [[str(row.get(column, "")) for column in told] for row in found]
    about = [
        f"{row['name']}: {what}: {row[what]}" for row in found for what in ("data", "terms") if row.get(what)
    ]
    emit({"items": found}, json_path, [*table(list(told), rows, left=4), "", *about])


@lm.command("train")
def lm_train(
    texts: Annotated[list[Path], typer.Argument(help="Text files, a line of writing a line.")],
    out: Annotated[Path, target("Model to write; .arpa is ARPA text.")],
    order: Annotated[int, typer.Option(min=1, max=10, help="Longest n-gram.")] = 6,
    json_path: Json = None,
) -> None:
    """Train an interpolated modified Kneser-Ney model of characters.

    Example: recurra ocr lm train letters.txt -o letters.npz --order 6
    """
    from core.terminal import emit
    from vision.ocr.converting import train_model

    count = train_model(texts, out, order)
    said = f"{out}: order {order}, {count:,} n-grams"
    emit({"model": str(out), "order": order, "ngrams": count}, json_path, [said])


@lm.command("score")
def lm_score(
    model: Annotated[Path, typer.Argument(help="Model of `lm train`, or ARPA.")],
    texts: Annotated[list[Path], typer.Argument(help="Text files.")],
    json_path: Json = None,
) -> None:
    """Perplexity per character, ends of lines counted.

    Example: recurra ocr lm score letters.npz other.txt
    """
    from core.terminal import emit
    from vision.ocr.converting import perplexity

    found = perplexity(model, texts)
    emit({"model": str(model), "perplexity": found}, json_path, [f"{found:.3f}"])
