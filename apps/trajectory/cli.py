"""`recurra trajectory`: simulate, train, evaluate, predict, stream, export; the others are in `cli_logs`."""

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from apps.trajectory.cli_words import (
    READER,
    Compat,
    Files,
    MaxGap,
    Reading,
    Stats,
    Weights,
    app,
    end,
    named_model,
    read,
    reader,
)
from core import terminal
from core.terminal import (
    Config,
    Device,
    Json,
    OutFile,
    Quiet,
    Read,
    Resume,
    RunFolder,
    Seed,
    Sets,
    SetSeed,
    Threads,
    emit,
    say,
    say_all,
    set_threads,
    target,
)
from core.text import shown

WAIT_S = 1.0
"""Seconds of silence after which a stream looks which tracks have stopped."""


@app.command()
def simulate(
    out: Annotated[Path, target("CSV file to write, .gz packs it.")],
    flights: Annotated[int, typer.Option(min=1, max=100_000, help="How many flights.")] = 10,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="Length of each.")] = 30.0,
    family: Annotated[str | None, typer.Option(help="One family of flights; a mix when left out.")] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Without measurement noise, jitter and dropouts.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Write generated flights as one CSV of tracks.

    Example: recurra trajectory simulate -o flights.csv --flights 20 --family racing --seed 1
    """
    from apps.trajectory.synth.write import write_flights

    count, samples = write_flights(out, flights, seconds, family, clean=clean, seed=seed)
    print(f"{out}: {count} flights, {samples} samples")


@app.command()
def train(
    data: Annotated[
        list[str] | None, typer.Argument(help="Track files or folders; generated flights alone if left out.")
    ] = None,
    out: RunFolder = Path("runs/trajectory"),
    config: Config = None,
    sets: Sets = None,
    seed: SetSeed = None,
    start: Annotated[str | None, typer.Option(help="Weights to begin from: a name, a file, a run.")] = None,
    resume: Resume = False,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    json_path: Json = None,
) -> None:
    """Train a predictor on generated flights and the given files, split by flight.

    Example: recurra trajectory train flights/ --out runs/a --set model.unit=min_gru --set loop.epochs=5
    """
    from apps.trajectory.config import TrainConfig
    from apps.trajectory.train import train as run
    from core.config import resolve
    from core.training import reuse_memory

    set_threads(threads)
    reuse_memory()
    settings = resolve(TrainConfig(), config, sets, seed=seed)
    where = str(terminal.device(device))
    outcome = run(settings, out, data or [], device=where, start=start, resume=resume, quiet=quiet)
    emit(outcome.as_dict(), json_path, outcome.lines())


@app.command(cls=Reading, epilog=READER)
def evaluate(
    files: Files,
    weights: Weights = None,
    stats: Stats = None,
    compat: Compat = False,
    stride: Annotated[int, typer.Option(min=1, help="Samples between windows.")] = 5,
    max_gap: MaxGap = None,
    reading: Read = None,
    device: Device = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Score a model beside all baselines: metres, 10 Hz, 21 positions of history, 2 s of future.

    Example: recurra trajectory evaluate flights/*.csv --json report.json
    """
    from apps.trajectory.evaluate import evaluate as score
    from apps.trajectory.evaluate import table

    set_threads(threads)
    options = reader(reading)
    model = named_model(weights, stats, compat, device)
    tracks, failed = read(files, options)
    report = score(model, tracks, stride=stride, failed=failed, max_gap=max_gap)
    known = {warning for track in tracks for warning in track.warnings}
    say_all(warning for warning in report["warnings"] if warning not in known)
    emit(report, json_path, table(report))
    end(files, failed)


@app.command(cls=Reading, epilog=READER)
def predict(
    files: Files,
    weights: Weights = None,
    stats: Stats = None,
    compat: Compat = False,
    horizon: Annotated[
        float | None, typer.Option(help="Seconds to predict; later than the model: null.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Predict from this time: seconds of the track, the file's own clock, or ISO 8601."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="Predict along the track, each N-th sample.")
    ] = None,
    coverage: Annotated[float, typer.Option(help="Chance that the conformal ball holds the truth.")] = 0.9,
    near: Annotated[
        str | None,
        typer.Option(help="x,y,z (lat,lon,alt of a geographic log): closest approach to this point."),
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="With --near: chance of entering this sphere, m.")
    ] = None,
    fence: Annotated[
        Path | None, typer.Option(help="GeoJSON polygons (floor, ceiling): chance of entering each.")
    ] = None,
    max_gap: MaxGap = None,
    out: Annotated[Path | None, target(".json, .csv, .geojson or .kml.")] = None,
    reading: Read = None,
    device: Device = None,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Predict the next seconds of every track; the steps of the answer follow the rhythm of the log.

    Example: recurra trajectory predict flight.csv --horizon 2 --near 10,0,5 --radius 3 -o prediction.json
    """
    from apps.trajectory.asking import Question, ask, near_words, place_of, slow_words
    from apps.trajectory.fence import read_areas
    from apps.trajectory.predict import check_words
    from apps.trajectory.write import check_name
    from core.errors import ConfigError

    check_words(horizon, coverage, max_gap)
    if radius is not None and not radius > 0:
        raise ConfigError(f"--radius wants metres above 0, got {radius:g}.")
    question = Question(
        horizon,
        None if at is None else moment_of(at),
        every,
        coverage,
        max_gap,
        None if near is None else place_of(near),
        radius,
        () if fence is None else tuple(read_areas(fence)),
    )
    if out is not None:
        check_name(out)
    set_threads(threads)
    options = reader(reading)
    model = named_model(weights, stats, compat, device)
    tracks, failed = read(files, options)
    say_all(words for track in tracks if (words := slow_words(track)) is not None)
    say_all(words for track in tracks if (words := near_words(question.near, track)) is not None)
    count, lines, problems = ask(
        tracks, model, question, out=out, json_path=json_path, failed=list(failed.values())
    )
    say_all(f"no prediction: {problem}" for problem in problems)
    if out is not None:
        say(f"{out}: {count} predictions")
    if json_path != "-":
        print("\n".join(shown(line) for line in lines))
    end(files, failed)


def moment_of(text: str) -> float:
    """Seconds, or a date and time as seconds since 1970 (UTC where it says no zone)."""
    from datetime import UTC, datetime

    from core.errors import ConfigError

    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"--at wants seconds or a time such as 2026-05-02T10:15:30Z; got {text!r}."
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@app.command()
def stream(
    weights: Weights = None,
    stats: Stats = None,
    compat: Compat = False,
    mode: Annotated[
        Literal["window", "stateful"], typer.Option(help="Encode the window again, or carry a state.")
    ] = "window",
    udp: Annotated[
        str | None, typer.Option(help="Listen for JSON lines at host:port instead of stdin.")
    ] = None,
    mavlink: Annotated[
        str | None, typer.Option(help="Listen at a MAVLink address, such as udp:127.0.0.1:14550.")
    ] = None,
    horizon: Annotated[
        float | None, typer.Option(help="Seconds to predict; later than the model: null.")
    ] = None,
    every: Annotated[
        float, typer.Option(help="Least seconds between predictions of a track; 0: each sample.")
    ] = 0.0,
    tick: Annotated[float | None, typer.Option(help="Also predict after so much silence, s.")] = None,
    max_gap: MaxGap = None,
    expire: Annotated[float, typer.Option(help="Forget a track after so much silence, s.")] = 10.0,
    between: Annotated[
        float | None, typer.Option(help="Tell pairs of tracks that will come within so many metres.")
    ] = None,
    device: Device = None,
    threads: Threads = None,
) -> None:
    """Read live samples, write one JSON line per prediction.

    A sample is {"t": seconds, "id": "any", "p": [x, y, z]} with an optional velocity "v"; "lat", "lon" and
    "alt" may stand in place of "p", and "p" may have two coordinates.

    Example: cat samples.jsonl | recurra trajectory stream --horizon 1
    """
    import numpy as np

    from apps.trajectory.light import DEFAULT, light_engine
    from apps.trajectory.sources import json_lines
    from apps.trajectory.sources import mavlink as mavlink_source
    from apps.trajectory.sources import udp as udp_source
    from apps.trajectory.stream import Stream, StreamConfig, run
    from core.errors import ConfigError

    if udp is not None and mavlink is not None:
        raise ConfigError("listen to --udp or to --mavlink, not to both.")
    config = StreamConfig(mode, horizon, every, max_gap, expire, between)
    engine = None
    if device is None and stats is None:
        engine = light_engine(weights or DEFAULT, mode)
    if engine is None:
        from apps.trajectory.engine import engine_for

        set_threads(threads)
        engine = engine_for(named_model(weights, stats, compat, device), mode)
    engine.window(np.zeros((engine.history, engine.dims)))  # compile before the first sample waits for it
    live = Stream(engine, config)
    wait = WAIT_S if tick is None else tick
    source: Any = json_lines(sys.stdin.buffer, wait)
    if udp is not None:

        def lost(count: int) -> None:
            live.counters.lost = count

        source = udp_source(udp, wait, lost)
    elif mavlink is not None:
        source = mavlink_source(mavlink, wait)

    def write(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    # asked to end, the stream says what happened all the same
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        run(live, source, write, say, answer_ticks=tick is not None)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    say(json.dumps(live.counters.summary()))


@app.command()
def export(
    out: OutFile,
    weights: Weights = None,
    stats: Stats = None,
    compat: Compat = False,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Write a model as ONNX and check it against torch in onnxruntime.

    Example: recurra trajectory export -o trajectory.onnx
    """
    from apps.trajectory.export import export_onnx, metadata

    set_threads(threads)
    model = named_model(weights, stats, compat)
    worst = export_onnx(model.network, out, metadata(model))
    size = out.stat().st_size
    result = {"file": str(out), "bytes": size, "largest_difference_m": worst}
    emit(result, json_path, [f"{out}: {size / 1024:.0f} KB, largest difference from torch {worst:.2g} m"])


from apps.trajectory import cli_logs  # noqa: E402, F401  # its commands sign in with `app`
