"""The commands of `recurra ocr` beside reading and training: formats, lines of pages, models, decoders."""

from pathlib import Path
from typing import Annotated

import typer

from core.terminal import OUTPUTS, Device, Json, Quiet, RunFolder, Sets, Weights, application, target
from vision.ocr.cli_words import (
    Allow,
    Alternatives,
    Choices,
    Deny,
    Lexicon,
    Regex,
    SoManyDigits,
    UnknownWord,
    WordSearch,
    WordText,
    WordWeight,
)

app = application("")
"""Its commands are put among those of `vision.ocr.cli`."""


@app.command()
def convert(
    inputs: Annotated[list[str], typer.Argument(help="ALTO, PAGE, hOCR, JSON, text, PDF files or folders.")],
    form: Annotated[str, typer.Option("--format", help="text, json, csv, alto, page, hocr or pdf.")],
    out: Annotated[Path, OUTPUTS],
) -> None:
    """Write pages in another format without reading them again; pdf needs the image beside the file.

    Example: recurra ocr convert pages/*.xml --format hocr -o out/
    """
    from vision.ocr.converting import convert_all

    convert_all(inputs, form, out)


@app.command()
def segment(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Page images, PDFs, folders, globs; ALTO or PAGE whose regions are filled."),
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
) -> None:
    """Find the lines of pages and their reading order, without reading them.

    Example: recurra ocr segment scans/ --format page -o lines/
    """
    from vision.ocr.converting import segment_all

    segment_all(inputs, form, out, right_to_left=rtl, weights=weights, join=join)


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
    from vision.ocr.converting import align as run

    line = run(image, text, weights)
    rows = [f"{c.x0_px:7.1f} {c.x1_px:7.1f}  {c.confidence:.2f}  {c.text}" for c in line.chars]
    emit(line.as_dict(), json_path, rows)


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
    json_path: Json = None,
) -> None:
    """Text of stored log-probabilities through any decoder; label 0 is the blank.

    Example: recurra ocr decode lines.npz --lm french.npz --alternatives 3
    """
    from core.terminal import emit
    from vision.ocr.reading import listed
    from vision.ocr.stored import decoded, decoding_of

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
) -> None:
    """Turn a published checkpoint into weights that `read --weights` takes; no code of it is run.

    Example: recurra ocr import htr.mlmodel -o htr.safetensors
    """
    from vision.ocr.layouts.published import bring_in

    for line in bring_in(file, out, layout, alphabet):
        print(line)


@app.command()
def export(
    out: Annotated[Path, target("graph.onnx, or kraken's .safetensors for a VGSL network.")],
    weights: Weights = None,
    task: Annotated[str, typer.Option(help="lines or digits: whose bundled weights.")] = "lines",
) -> None:
    """Write a network as ONNX, compared with the network at another width, or as a file of kraken.

    Example: recurra ocr export -o lines.onnx
    """
    from vision.ocr.export import export_file

    for line in export_file(out, weights, task):
        print(line)


@app.command()
def study(
    what: Annotated[str, typer.Argument(help="units or shares.")],
    data: Annotated[list[str], typer.Argument(help="Lines, as for train.")],
    out: RunFolder = Path("runs/study"),
    only: Annotated[str | None, typer.Option(help="Names with commas, such as lstm,gru or 0,50.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of every training.")] = 1500,
    sets: Sets = None,
    device: Device = None,
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

    names = tuple(name.strip() for name in (only or "").split(",") if name.strip())
    config = resolve(defaults("lines"), None, sets, seed=None)
    rows = run(
        what, data, out, names=names, steps=steps, config=config, device=device_of(device), quiet=quiet
    )
    emit({"items": [row.as_dict() for row in rows]}, json_path, shown(what, rows))


@app.command()
def models(
    settings: Annotated[
        str | None, typer.Option(help="Print the TOML that these weights were trained with, for --config.")
    ] = None,
) -> None:
    """Bundled weights with language, period and score; or how some of them were trained.

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

    rows = [
        [row["name"], str(row.get("language", "")), str(row.get("period", "")), str(row.get("score", ""))]
        for row in bundled()
        if str(row.get("task", "")).startswith("ocr")
    ]
    print("\n".join(table(["name", "language", "period", "score"], rows, left=4)))


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
