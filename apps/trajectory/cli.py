"""`recurra trajectory`: simulate, train, evaluate, predict, stream, export."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from core.terminal import (
    Config,
    Device,
    Json,
    Quiet,
    Read,
    Resume,
    Seed,
    Sets,
    Threads,
    device,
    emit,
    say,
    say_all,
    set_threads,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Predict where drones and other movers will be, with calibrated uncertainty.\n\n"
    "Example: recurra trajectory predict flight.csv --horizon 2 -o prediction.json",
)

Files = Annotated[list[str], typer.Argument(help="Track files, folders or globs.")]
Weights = Annotated[
    str | None,
    typer.Option(help="Bundled name, weights file, run folder, or published .pth. Default: bundled."),
]
Stats = Annotated[Path | None, typer.Option(help="Statistics (.npz) of published .pth weights.")]
Compat = Annotated[
    bool, typer.Option("--compat", help="Run published weights as their node does (20 positions).")
]
OLD_WORDS = ("format", "columns", "time-unit", "group", "rate", "times", "frame")
"""Options of 0.1 that are settings of `--read` now; they work one release longer."""


class Reading(TyperCommand):
    """A command whose `--columns X` of 0.1 is `--read columns=X`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words: list[str] = []
        for word in args:
            name, equals, value = word.removeprefix("--").partition("=")
            if words and words[-1].endswith("\0"):  # the value of an old option
                words[-1] = words[-1].removesuffix("\0") + word
            elif word.startswith("--") and name in OLD_WORDS:
                words += ["--read", f"{name.replace('-', '_')}={value if equals else chr(0)}"]
            else:
                words.append(word)
        return super().parse_args(ctx, [word.removesuffix("\0") for word in words])


def options(words: list[str] | None) -> Any:
    """The reader's settings of `--read`."""
    from apps.trajectory.formats import Options
    from core.terminal import reader_options

    return reader_options(Options(), words)


def read(files: list[str], words: list[str] | None) -> tuple[list[Any], Any]:
    """Tracks of all files that can be read, and what came of each; remarks go to stderr."""
    from apps.trajectory.data import inputs
    from apps.trajectory.formats import read as read_file
    from core.jobs import mirror, run

    chosen = options(words)
    done = run(mirror(inputs(files), None), lambda job: read_file(job.source.path, chosen))
    tracks = [track for _, found in done.results for track in found]
    say_all(f"{track.name}: {warning}" for track in tracks for warning in track.warnings)
    return tracks, done


def named_model(weights: str | None, stats: Path | None, compat: bool, where: str | None = None) -> Any:
    """The model of `--weights`, `--stats`, `--compat` and `--device`."""
    from apps.trajectory.model import DEFAULT, load_model

    return load_model(weights or DEFAULT, stats, compat=compat, device=device(where))


@app.command()
def simulate(
    out: Annotated[Path, typer.Option("-o", "--out", help="CSV file to write, .gz packs it.")],
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
    from apps.trajectory.simulate import write_flights

    count, samples = write_flights(out, flights, seconds, family, clean=clean, seed=seed)
    print(f"{out}: {count} flights, {samples} samples")


@app.command()
def train(
    data: Annotated[
        list[str] | None, typer.Argument(help="Track files or folders; generated flights alone if left out.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Run folder.")] = Path("runs/trajectory"),
    config: Config = None,
    sets: Sets = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    resume: Resume = False,
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
    words = [*(sets or []), *([f"seed={seed}"] if seed is not None else [])]
    outcome = run(resolve(TrainConfig(), config, words), out, data or [], resume=resume, quiet=quiet)
    result = {
        "run": str(out),
        "weights": str(outcome.weights),
        "score": outcome.score,
        "epoch": outcome.epoch,
        "steps": outcome.steps,
        "seconds": outcome.seconds,
        "stopped": outcome.stopped,
    }
    emit(result, json_path, [str(outcome.weights), f"best in epoch {outcome.epoch}: {outcome.score:.5g}"])


@app.command(cls=Reading)
def evaluate(
    files: Files,
    weights: Weights = None,
    stats: Stats = None,
    compat: Compat = False,
    stride: Annotated[int, typer.Option(min=1, help="Samples between windows.")] = 5,
    where: Device = None,
    threads: Threads = None,
    reading: Read = None,
    json_path: Json = None,
) -> None:
    """Score a model beside all baselines: metres, 10 Hz, 21 positions of history, 2 s of future.

    Example: recurra trajectory evaluate flights/*.csv --json report.json
    """
    from apps.trajectory.evaluate import evaluate as score
    from apps.trajectory.evaluate import table
    from core.jobs import finish

    set_threads(threads)
    model = named_model(weights, stats, compat, where)
    tracks, done = read(files, reading)
    if not tracks:
        finish(done)
    report = score(model, tracks, stride=stride)
    say_all(report.get("warnings", []))
    emit(report, json_path, table(report))
    finish(done)


@app.command(cls=Reading)
def predict(
    files: Files,
    weights: Weights = None,
    stats: Stats = None,
    compat: Compat = False,
    horizon: Annotated[
        float | None, typer.Option(help="Seconds to predict; later than the model: null.")
    ] = None,
    at: Annotated[
        float | None, typer.Option(help="Predict from this time of the track; its end by default.")
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="Predict along the track, each N-th sample.")
    ] = None,
    coverage: Annotated[float, typer.Option(help="Chance that the conformal ball holds the truth.")] = 0.9,
    near: Annotated[
        str | None, typer.Option(help="x,y,z: time and distance of the closest approach to this point.")
    ] = None,
    radius: Annotated[
        float | None, typer.Option(help="With --near: chance of entering this sphere, m.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help=".json, .csv, .geojson or .kml.")] = None,
    where: Device = None,
    threads: Threads = None,
    reading: Read = None,
    json_path: Json = None,
) -> None:
    """Predict the next seconds of every track.

    Example: recurra trajectory predict flight.csv --horizon 2 --near 10,0,5 --radius 3 -o prediction.json
    """
    from apps.trajectory.predict import predict as ask
    from apps.trajectory.predict import predict_along
    from apps.trajectory.write import as_records, check_name, write_predictions
    from core.errors import DataError
    from core.jobs import finish

    set_threads(threads)
    place = point(near) if near is not None else None
    if out is not None:
        check_name(out)
    model = named_model(weights, stats, compat, where)
    tracks, done = read(files, reading)
    answers, problems = [], []
    for track in tracks:
        try:
            if every is not None:
                answers += [
                    (track, found) for found in predict_along(track, model, stride=every, coverage=coverage)
                ]
            else:
                answers.append((track, ask(track, model, horizon_s=horizon, at_s=at, coverage=coverage)))
        except DataError as error:
            problems.append(str(error))
    if not answers:
        if done.failures:
            finish(done)
        raise DataError(problems[0] if problems else f"{files[0]}: no track is long enough for a prediction.")
    say_all(f"no prediction: {problem}" for problem in problems)
    if out is not None:
        write_predictions(answers, out)
        say(f"{out}: {len(answers)} predictions")
    records = as_records(answers)
    if place is not None:
        for record, (_, prediction) in zip(records, answers, strict=True):
            record["approach"] = approach(prediction, place, radius)
    skipped = [*map(str, done.failures), *problems]
    emit(
        {"model": model.name, "predictions": records, "skipped": skipped}, json_path, lines(answers, records)
    )
    finish(done)


def point(text: str) -> Any:
    """`x,y,z` as an array."""
    import numpy as np

    from core.errors import ConfigError

    try:
        return np.array([float(word) for word in text.split(",")])
    except ValueError as error:
        raise ConfigError(f"--near wants metres x,y,z; got {text!r}.") from error


def approach(prediction: Any, place: Any, radius: float | None) -> dict[str, float | None]:
    """Closest approach to a place, and the chance of entering the sphere around it."""
    from apps.trajectory.predict import closest_approach, entry_probability

    nearest = closest_approach(prediction, place)
    chance = None if radius is None else entry_probability(prediction, place, radius)
    return {"ahead_s": nearest.ahead_s, "distance_m": nearest.distance_m, "entry_probability": chance}


def lines(answers: list[Any], records: list[dict[str, Any]]) -> list[str]:
    """Predictions for people: position and radius at the end of each known second."""
    text = [f"{'track':<28}{'from t':>10}{'ahead':>8}  position (m){'':<20}90 % radius (m)"]
    for (track, prediction), record in list(zip(answers, records, strict=True))[:50]:
        steps = len(prediction.mean)
        second = max(1, round(1.0 / float(prediction.ahead_s[0])))
        for k in sorted({min(second // 2, steps) - 1, *range(second - 1, steps, second), steps - 1} - {-1}):
            mean = prediction.mean[k]
            known = bool((mean == mean).all())
            position = "  ".join(f"{value:9.2f}" for value in mean) if known else "beyond the model's horizon"
            ball = f"{prediction.radius[k]:8.2f}" if prediction.radius is not None and known else ""
            when = f"{prediction.time_s:>10.2f}{prediction.ahead_s[k]:>7.1f}s"
            text.append(f"{track.name[:27]:<28}{when}  {position}  {ball}")
        near = record.get("approach")
        if near is not None:
            chance = (
                ""
                if near["entry_probability"] is None
                else f", chance of entry {near['entry_probability']:.3f}"
            )
            text.append(f"{'':<28}closest {near['distance_m']:.2f} m in {near['ahead_s']:.2f} s{chance}")
    if len(answers) > 50:
        text.append(f"... and {len(answers) - 50} more; -o or --json writes all of them")
    return text


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
    tick: Annotated[
        float | None, typer.Option(help="UDP and MAVLink: also predict after so much silence, s.")
    ] = None,
    max_gap: Annotated[float, typer.Option(help="A longer gap starts a track anew, s.")] = 0.5,
    expire: Annotated[float, typer.Option(help="Forget a track after so much silence, s.")] = 10.0,
    threads: Threads = None,
) -> None:
    """Read live samples, write one JSON line per prediction.

    A sample is {"t": seconds, "id": "any", "p": [x, y, z]} with an optional velocity "v".

    Example: cat samples.jsonl | recurra trajectory stream --horizon 1
    """
    import numpy as np

    from apps.trajectory.engine import engine_for
    from apps.trajectory.sources import json_lines
    from apps.trajectory.sources import mavlink as mavlink_source
    from apps.trajectory.sources import udp as udp_source
    from apps.trajectory.stream import Stream, StreamConfig, run
    from core.errors import ConfigError

    if udp is not None and mavlink is not None:
        raise ConfigError("listen to --udp or to --mavlink, not to both.")
    set_threads(threads)
    config = StreamConfig(mode, horizon, every, max_gap, expire)
    model = named_model(weights, stats, compat)
    engine = engine_for(model, mode)
    engine.window(np.zeros((engine.history, model.dims)))  # compile before the first sample waits for it
    live = Stream(engine, config)
    source: Any = json_lines(sys.stdin.buffer)
    if udp is not None:
        source = udp_source(udp, tick)
    elif mavlink is not None:
        source = mavlink_source(mavlink, tick)

    def write(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    try:
        run(live, source, write, say)
    except KeyboardInterrupt:
        pass
    say(json.dumps(live.counters.summary()))


@app.command()
def export(
    out: Annotated[Path, typer.Option("-o", "--out", help="ONNX file to write.")],
    weights: Weights = None,
    stats: Stats = None,
    compat: Compat = False,
    threads: Threads = None,
    json_path: Json = None,
) -> None:
    """Write a model as ONNX and check it against torch in onnxruntime.

    Example: recurra trajectory export -o trajectory.onnx
    """
    from apps.trajectory.export import export_onnx

    set_threads(threads)
    model = named_model(weights, stats, compat)
    worst = export_onnx(model.network, out)
    size = out.stat().st_size
    result = {"file": str(out), "bytes": size, "largest_difference_m": worst}
    emit(result, json_path, [f"{out}: {size / 1024:.0f} KB, largest difference from torch {worst:.2g} m"])
