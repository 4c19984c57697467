"""`recurra trajectory inspect`, `calibrate`, `motions`: what is around predicting."""

from pathlib import Path
from typing import Annotated

import typer

from apps.trajectory.cli_words import (
    READER,
    Compat,
    Files,
    MaxGap,
    Reading,
    Weights,
    app,
    end,
    named_model,
    read,
    reader,
)
from core.terminal import Json, OutFile, Read, Seed, Threads, emit, say, set_threads, target


@app.command(cls=Reading, epilog=READER)
def inspect(
    files: Files,
    max_gap: MaxGap = None,
    out: Annotated[
        Path | None, target("Write the tracks as understood: .csv, .parquet, .gpx or .geojson.")
    ] = None,
    reading: Read = None,
    json_path: Json = None,
) -> None:
    """Say what was understood of logs: format, columns, clock, rate, gaps, frame, speeds, what was left out.

    Example: recurra trajectory inspect flight.csv -o clean.csv
    """
    from apps.trajectory.inspect import check_name, lines, write_tracks
    from apps.trajectory.inspect import inspect as look

    if out is not None:
        check_name(out)
    tracks, failed = read(files, reader(reading), remarks=False)
    reports = [look(track, max_gap) for track in tracks]
    if out is not None:
        count = write_tracks(tracks, out)
        say(f"{out}: {len(tracks)} tracks, {count} samples")
    result = {"tracks": reports, "failed": failed}
    emit(result, json_path, [line for report in reports for line in lines(report)])
    end(files, failed)


@app.command(cls=Reading, epilog=READER)
def calibrate(
    files: Files,
    out: OutFile,
    weights: Weights = None,
    stride: Annotated[int, typer.Option(min=1, help="Samples between windows.")] = 5,
    coverage: Annotated[float, typer.Option(min=0.5, max=0.99, help="Coverage that is measured.")] = 0.9,
    reading: Read = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Fit the balls of weights to your own flights, without training; predict, stream and export take them.

    Example: recurra trajectory calibrate flights/ -o mine.safetensors
    """
    from apps.trajectory.calibrate import FEW, lines, save_calibrated
    from apps.trajectory.calibrate import calibrate as fit

    set_threads(threads)
    options = reader(reading)
    model = named_model(weights, None, False)
    tracks, failed = read(files, options)
    fitted, report = fit(tracks, model, stride=stride, coverage=coverage)
    save_calibrated(fitted, out, report)
    if report["flights"] < FEW:
        say(f"{report['flights']} flights are few: from {FEW} on the coverage found is one to count on.")
    emit({"weights": str(out), **report}, json_path, lines(report, out))
    end(files, failed)


@app.command()
def motions(
    weights: Weights = None,
    tracks: Annotated[int, typer.Option(min=1, max=10_000, help="Tracks of each family.")] = 60,
    scale: Annotated[float, typer.Option(help="Multiplies the ranges of the families.")] = 1.0,
    into: Annotated[Path | None, typer.Option(help="README whose table is to be replaced.")] = None,
    front: Annotated[
        bool, typer.Option("--fronts", help="Compare what may stand before the network at 100 Hz instead.")
    ] = False,
    seed: Seed = 1,
    compat: Compat = False,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Score a model on generated motions of many movers beside simple methods, at 1 and 2 s.

    Example: recurra trajectory motions --tracks 20
    """
    from dataclasses import asdict

    from apps.trajectory import fronts
    from apps.trajectory.motion_table import lines, table, write_into

    set_threads(threads)
    model = named_model(weights, None, compat)
    if front:
        fast = list(fronts.fronts(model, tracks=tracks, seed=seed))
        families = [asdict(row) for row in fast]
        result = {"model": model.name, "tracks": tracks, "seed": seed, "fronts": families}
        emit(result, json_path, fronts.lines(fast))
        return
    rows = list(table(model, tracks=tracks, seed=seed, scale=scale))
    told = lines(rows)
    if into is not None:
        write_into(into, told)
    found = [{**asdict(row), "near": row.near, "held": row.held} for row in rows]
    emit({"model": model.name, "tracks": tracks, "seed": seed, "families": found}, json_path, told)
