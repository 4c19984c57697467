"""`recurra speech`: evaluate, score, index."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.terminal import (
    Device,
    Json,
    OutFile,
    Quiet,
    Seed,
    Threads,
    Weights,
    device,
    emit,
    say_all,
    set_threads,
)

if TYPE_CHECKING:
    from core.jobs import Job


def evaluate(
    task: Annotated[str, typer.Argument(help="enhance or separate.")],
    index: Annotated[Path, typer.Argument(help="CSV with noisy,clean or mix,s1,s2; paths beside it.")],
    weights: Weights = None,
    with_peers: Annotated[
        bool, typer.Option("--peers", help="Also GTCRN, and RNNoise if installed.")
    ] = False,
    keep_clean: Annotated[
        bool, typer.Option("--keep-clean", help="Also what becomes of the clean files themselves.")
    ] = False,
    voices: Annotated[
        bool, typer.Option("--voices", help="The index has a column voice: a clip of the wanted talker.")
    ] = False,
    group: Annotated[str | None, typer.Option("--group", help="Column to report apart.")] = None,
    threads: Threads = None,
    device_name: Device = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Score a model on pairs, beside the unprocessed input and simple methods.

    Example: recurra speech evaluate enhance pairs/index.csv --json report.json
    """
    from core.report import number, scores, table
    from speech.evaluate import evaluate as run

    set_threads(threads)
    report = run(
        task,
        index,
        weights,
        device=str(device(device_name)),
        with_peers=with_peers,
        keep_clean=keep_clean,
        voices=voices,
        group=group,
        seed=seed,
        quiet=quiet,
    )
    names = {"si_sdr": "SI-SDR dB", "si_sdri": "SI-SDRi dB", "pesq_wb": "PESQ-wb", "stoi": "STOI"}
    names = {key: text for key, text in names.items() if key in report["model"]}
    lines: list[str] = []
    for kind, part in {"": report, **report.get("groups", {})}.items():
        head, rows = scores(part, names, model=report["protocol"]["weights"])
        lines += [kind] if kind else []
        lines += table(head, rows)
    if "kept" in report:
        kept = report["kept"]
        lines += [
            f"clean files through the model ({kept['n']}): "
            f"SI-SDR {number(kept['si_sdr'], 2)} dB, PESQ-wb {number(kept['pesq_wb'], 2)}"
        ]
    failed = [
        f"{item.get('noisy') or item.get('mix')}: {item['error']}"
        for item in report["items"]
        if "error" in item
    ]
    say_all(failed)
    emit(report, json_path, lines)
    if failed:
        raise typer.Exit(2)


def score(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="A reference and what is scored against it, files or folders with the same names inside; "
            "with --no-reference any files, folders, globs, or - for a list on stdin."
        ),
    ],
    no_reference: Annotated[
        bool, typer.Option("--no-reference", help="DNSMOS and levels of every file, without a reference.")
    ] = False,
    threads: Threads = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Score files against references: SI-SDR, SDR, PESQ, STOI and ESTOI; or files alone.

    Example: recurra speech score clean.wav estimate.wav
    """
    from core.jobs import finish, run
    from core.report import number
    from speech import metrics
    from speech.no_reference import figures_of

    set_threads(threads)
    jobs = scored_jobs(paths, no_reference)

    def work(job: "Job") -> dict[str, float]:
        return (
            figures_of(job.source.path)
            if job.target is None
            else metrics.compared(job.source.path, job.target)
        )

    if len(jobs) == 1:
        figures: dict[str, Any] = work(jobs[0])
        emit(figures, json_path, [f"{name:<9} {number(value, 3)}" for name, value in figures.items()])
        return
    done = run(jobs, work, "files", again=True, quiet=quiet)
    items = [{"path": str(job.target or job.source.path), **found} for job, found in done.results]
    items += [{"path": str(f.source.path), "error": str(f.error)} for f in done.failures]
    means = metrics.mean([found for _, found in done.results])
    lines = [f"{name:<9} {number(value, 3)}" for name, value in means.items()]
    emit(
        {"n": len(jobs), "mean": means, "items": items}, json_path, [f"means of {len(done.results)}", *lines]
    )
    finish(done)


def scored_jobs(paths: list[str], no_reference: bool) -> "list[Job]":
    """What is scored, and against which file: the source is the reference where there is one.

    Raises:
        ConfigError: neither a reference and an estimate nor files alone.
    """
    from core.errors import ConfigError
    from core.jobs import Job, gather
    from speech.audio import SUFFIXES

    if no_reference:
        return [Job(source) for source in gather(paths, SUFFIXES)]
    if len(paths) != 2:
        raise ConfigError("give a reference and an estimate, files or folders; or files and --no-reference.")
    clean, estimate = gather(paths[:1], SUFFIXES), Path(paths[1])
    if len(clean) > 1 and not estimate.is_dir():
        raise ConfigError(f"{estimate}: {len(clean)} references need a folder of estimates.")
    return [Job(source, estimate / source.relative if estimate.is_dir() else estimate) for source in clean]


def index(
    folder: Annotated[Path, typer.Argument(help="A public data set as it comes.")],
    out: OutFile,
    split: Annotated[str, typer.Option("--split", help="train, valid or test.")] = "test",
    noisy: Annotated[
        bool, typer.Option("--noisy", help="Of two-talker sets the mixtures with noise, where there are any.")
    ] = False,
    json_path: Json = None,
) -> None:
    """Write the index that `evaluate` reads, of WSJ0-mix, WHAM, LibriMix, VoiceBank+DEMAND or DNS folders.

    Example: recurra speech index Libri2Mix/wav16k/min -o test.csv --split test
    """
    from speech.public_sets import write_index

    found: dict[str, Any] = write_index(folder, out, split, noisy=noisy)
    emit(found, json_path, [f"{out}: {found['rows']} rows of {found['layout']}, for {found['task']}"])
