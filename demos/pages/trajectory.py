"""Where will it be? Drop a log or choose a flight: prediction, 90 % tube, simple methods, live replay."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import plotly.graph_objects as go

from apps.trajectory.baselines import BASELINES
from apps.trajectory.data import Segment, Track, read_tracks
from apps.trajectory.engine import engine_for
from apps.trajectory.evaluate import evaluate
from apps.trajectory.model import DEFAULT, Model, load_model
from apps.trajectory.predict import predict
from apps.trajectory.prediction import Prediction
from apps.trajectory.replay import Replay, replay
from apps.trajectory.stream import Sample, Stream
from apps.trajectory.synth import FAMILIES, generate, recorded
from core.bundled import bundled
from core.errors import DataError
from demos.answering import answers
from demos.camera import HEIGHT_PX, WIDE_PX, WIDTH, fitted
from demos.first import once
from demos.headline import Headline
from demos.markup import Stat, stat_row, table
from demos.plots import template, thinned
from demos.progress import stands
from demos.sections.trajectory import HEAD, best_beside, label, over_horizon, rows
from demos.theme import BASELINE, OURS, PALETTE
from demos.uploads import said, uploaded

HEADLINE = Headline(
    weights="trajectory-gru",
    figure="fde_1s_px4_gazebo_C1",
    shown="{:.2f} m off after 1 s",
    against="fde_1s_px4_gazebo_C1_constant_velocity",
    note="constant velocity: {:.2f} m, on a flight that no training saw",
)
EXAMPLES = [name for name in ("racing", *FAMILIES) if name in FAMILIES]
MOST_SAMPLES = 200_000
AROUND_S = 6.0
"""Seconds of the flight that the scene shows before and after the moment."""
RING = 16
"""Corners of the tube's rings."""
SOLID, SOFT = "#1d9a84", "#5b6673"
"""Ours and the truth in 3-D, where a colour must be seen on light and on dark."""
FRAMES = 24
"""Pictures of a live replay."""


@once
def chosen(path: str | None, changed_ns: int, family: str, seed: int) -> Track:
    """The longest track of a file, or a generated flight without one."""
    if path is None:
        return recorded(generate(seed, 1, split="test", families=[family], duration_s=40.0)[0])
    track = max(read_tracks(path), key=len)
    if len(track) > MOST_SAMPLES:
        raise DataError(f"The track has {len(track)} samples; this page takes {MOST_SAMPLES}.")
    return track


@once
def looked_back(
    path: str | None, changed_ns: int, family: str, seed: int, weights: str, horizon_s: float
) -> Replay:
    """Errors along the flight, kept while only the moment changes."""
    return replay(chosen(path, changed_ns, family, seed), load_model(weights), horizon_s)


def source(file: str | None, family: str, seed: float) -> tuple[str | None, int, str, int]:
    """What was chosen, in words that tell one choice from another."""
    if file is None:
        return None, 0, family, int(seed or 0)
    path: Path = uploaded(file)
    return str(path), path.stat().st_mtime_ns, "", 0


@said
def show(
    file: str | None,
    family: str,
    seed: float,
    weights: str,
    horizon_s: float,
    moment: float,
    window_px: float = WIDE_PX,
) -> tuple[str, go.Figure, go.Figure]:
    """Stat row, scene and error over time for one moment (0 to 1) of the flight."""
    model = load_model(weights)
    stands(0.1, "along the flight")
    seen = looked_back(*source(file, family, seed), weights, horizon_s)
    known = seen.up_to(moment)
    answer = predict(known, model, horizon_s=seen.horizon_s)
    return (
        stat_row(stats(seen, answer)),
        scene(seen.segment, known, answer, model, compared(seen), window_px),
        over_time(seen, answer),
    )


def stats(seen: Replay, answer: Prediction) -> list[Stat]:
    """Ours, constant velocity, the best of the others, what the ball held, and its size now."""
    ours = f"off after {seen.horizon_s:.1f} s, this model"
    found = [Stat(f"{seen.mean['model']:.2f} m", ours, ours=True, colour="var(--r-ours)")]
    for name, colour in compared(seen).items():
        found.append(Stat(f"{seen.mean[name]:.2f} m", label(name), colour=colour))
    if seen.held is not None and answer.radius is not None:
        found.append(Stat(f"{100 * seen.held:.0f} %", f"of {len(seen.ends)} outcomes in the 90 % ball"))
        found.append(Stat(f"± {answer.radius[-1]:.2f} m", "that ball at this moment"))
    return found


def compared(seen: Replay) -> dict[str, str]:
    """Constant velocity and the best of the other simple methods on this flight, with their colours."""
    best = next(name for name in seen.mean if name not in ("model", "constant_velocity"))
    return {"constant_velocity": BASELINE, best: PALETTE[1]}


def scene(
    flight: Segment,
    known: Segment,
    answer: Prediction,
    model: Model,
    beside: dict[str, str],
    window_px: float = WIDE_PX,
) -> go.Figure:
    """The moment in space, fitted to history, prediction and tube; the flight around it is context.

    Args:
        beside: simple methods to draw, with their colours.
        window_px: width of the reader's window, into which the view fits.
    """
    positions = flat3(flight.positions)
    now, steps = len(known) - 1, len(answer.mean)
    history = positions[max(0, now - model.history + 1) : now + 1]
    path = flat3(np.concatenate([answer.anchor[None], answer.mean]))
    past = known.positions[None, -model.history :, : model.dims]
    figure = go.Figure()
    around = round(AROUND_S / flight.dt)
    nearby = positions[max(0, now - around) : now + around]
    line(figure, nearby[thinned(len(nearby))], "flight", BASELINE, 2, legend=False)
    subject = [history, path, positions[now : now + steps + 1]]
    if answer.radius is not None:
        radius = np.concatenate([[0.0], answer.radius])
        figure.add_trace(tube(path, radius))
        subject += [path - radius[:, None], path + radius[:, None]]
    line(figure, history, "history", SOFT, 7)
    dots(figure, positions[now + 1 : now + steps + 1], "what happened")
    for name, colour in beside.items():
        straight = BASELINES[name](past, flight.dt, steps)[0]
        way = flat3(np.concatenate([answer.anchor[None], straight]))
        line(figure, way, label(name), colour, 4, legend=False)
    line(figure, path, "model", SOLID, 9)
    figure.update_layout(
        template=template(),
        height=HEIGHT_PX,
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene=fitted(np.concatenate(subject), path[-1] - history[0], window_px=window_px),
        legend={"orientation": "h", "y": 0, "x": 0, "xanchor": "left", "yanchor": "bottom"},
        uirevision="keep the view",
    )
    figure.update_scenes(xaxis_title="east (m)", yaxis_title="north (m)", zaxis_title="up (m)")
    return figure


def flat3(path: np.ndarray) -> np.ndarray:
    """(n, 3) float32; a plane track gets height zero."""
    path = path[:, :3]
    padding = np.zeros((len(path), 3 - path.shape[1]))
    return np.concatenate([path, padding], 1).astype(np.float32)


def line(
    figure: go.Figure, path: np.ndarray, name: str, colour: str, width: int, *, legend: bool = True
) -> None:
    x, y, z = path.T
    style: dict[str, Any] = {"color": colour, "width": width}
    figure.add_scatter3d(
        x=x, y=y, z=z, mode="lines", name=name, line=style, hoverinfo="name", showlegend=legend
    )


def dots(figure: go.Figure, path: np.ndarray, name: str) -> None:
    x, y, z = path.T
    style: dict[str, Any] = {"color": SOFT, "size": 3}
    figure.add_scatter3d(x=x, y=y, z=z, mode="markers", name=name, marker=style, hoverinfo="name")


def tube(path: np.ndarray, radius: np.ndarray) -> go.Mesh3d:
    """A surface around a path (n, 3) at a radius per point, with a flat end."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    side = np.cross(along, np.array([0.0, 0.0, 1.0]))
    side = np.where(np.linalg.norm(side, axis=1, keepdims=True) < 1e-3, [[1.0, 0.0, 0.0]], side)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(side, along)
    angle = 2 * np.pi * np.arange(RING) / RING
    ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    points = (path[:, None] + radius[:, None, None] * ring).reshape(-1, 3).astype(np.float32)
    step, corner = np.meshgrid(np.arange(len(path) - 1), np.arange(RING), indexing="ij")
    a = (step * RING + corner).ravel()
    b = (step * RING + (corner + 1) % RING).ravel()
    return go.Mesh3d(
        x=points[:, 0],
        y=points[:, 1],
        z=points[:, 2],
        i=np.concatenate([a, b]),
        j=np.concatenate([b, b + RING]),
        k=np.concatenate([a + RING, a + RING]),
        color=SOLID,
        opacity=0.22,
        name="90 % tube",
        showlegend=True,
        hoverinfo="skip",
    )


def over_time(seen: Replay, answer: Prediction) -> go.Figure:
    """Error at the horizon over the flight: ours thick, the simple methods thin."""
    figure = go.Figure()
    time = seen.time_s.astype(np.float32)
    for name, colour in compared(seen).items():
        error = seen.error[name].astype(np.float32)
        figure.add_scatter(x=time, y=error, name=label(name), line={"color": colour, "width": 1.2})
    figure.add_scatter(
        x=time, y=seen.error["model"].astype(np.float32), name="model", line={"color": OURS, "width": 2.6}
    )
    figure.add_vline(x=answer.time_s, line={"color": BASELINE, "width": 1, "dash": "dot"})
    best = min(seen.mean[name] for name in compared(seen)) / max(seen.mean["model"], 1e-9)
    figure.update_layout(
        template=template(),
        height=250,
        title=f"Best simple method: {best:.1f} times as far off",
        xaxis_title="time (s)",
        yaxis_title=f"error after {seen.horizon_s:.1f} s (m)",
        showlegend=False,
    )
    return figure


@said
def all_methods(file: str | None, family: str, seed: float, weights: str) -> tuple[str, str]:
    """Every method on this flight: the picture over the horizon and the table."""
    report = evaluate(load_model(weights), [chosen(*source(file, family, seed))])
    return over_horizon(report), table(HEAD, rows(report), "model", label(best_beside(report)[0]))


@said
def live(
    file: str | None, family: str, seed: float, weights: str, window_px: float = WIDE_PX
) -> Iterator[tuple[str, go.Figure]]:
    """The flight sample by sample through the live stream, as a page that changes."""
    model = load_model(weights)
    seen = looked_back(*source(file, family, seed), weights, 1.0)
    flight, stream = seen.segment, Stream(engine_for(model))
    steps = round(seen.horizon_s / flight.dt)
    shown_every = max(1, (len(flight) - model.history - steps) // FRAMES)
    for index, position in enumerate(flight.positions[: len(flight) - steps, : model.dims]):
        found = stream.feed(Sample(index * flight.dt, flight.track.name, tuple(position.tolist())))
        if found is None or index % shown_every:
            continue
        known = Segment(flight.track, flight.t0, flight.dt, flight.positions[: index + 1])
        answer = predict(known, model, horizon_s=seen.horizon_s)
        off = np.linalg.norm(
            np.asarray(found["mean"][steps - 1]) - flight.positions[index + steps, : model.dims]
        )
        now = [
            Stat(f"{off:.2f} m", f"off after {seen.horizon_s:.1f} s", ours=True),
            Stat(f"{answer.time_s:.1f} s", "of the flight"),
            Stat(f"{found['latency_us']:.0f} µs", "for this prediction"),
        ]
        yield stat_row(now), scene(flight, known, answer, model, compared(seen), window_px)
    done = stream.counters.summary()
    answer = predict(known, model, horizon_s=seen.horizon_s)
    yield (
        stat_row(
            [
                Stat(f"{done['predictions']}", "live predictions, replay done", ours=True),
                Stat(f"{done['latency_p50_us']:.0f} µs", "for each, median"),
                Stat(f"{done['latency_p99_us']:.0f} µs", "99 of 100 are faster"),
            ]
        ),
        scene(flight, known, answer, model, compared(seen), window_px),
    )


def build() -> gr.Blocks:
    """The page."""
    models = [about["name"] for about in bundled() if about["task"] == "trajectory"] or [DEFAULT]
    with gr.Blocks(title="Recurra: trajectory", analytics_enabled=False) as page:
        gr.HTML(
            "<h1>Where will it be?</h1><p class='r-lead'>Choose a flight or drop a log (TUM, EuRoC, KITTI, "
            "CSV, Parquet, ULog, geographic CSV): the next two seconds, and a tube that holds 90 % of "
            "outcomes.</p>",
            padding=False,
        )
        with gr.Row():
            with gr.Column(elem_classes="r-left"):
                family = gr.Dropdown(EXAMPLES, value=EXAMPLES[0], label="Example flight")
                file = gr.File(label="Or your own log", elem_id="log", type="filepath", height=120)
                horizon = gr.Slider(0.1, 2.0, value=1.0, step=0.1, label="Seconds ahead")
                moment = gr.Slider(0.0, 1.0, value=0.25, step=0.01, label="Moment of the flight")
                with gr.Row():
                    run = gr.Button("Live replay", variant="primary", min_width=80)
                    stop = gr.Button("Stop", min_width=60)
                with gr.Accordion("More settings", open=False):
                    seed = gr.Number(value=0, precision=0, label="Number of the example", minimum=0)
                    weights = gr.Dropdown(models, value=DEFAULT, label="Model")
                window = gr.Number(WIDE_PX, visible=False, label="Width of the window")
            with gr.Column(elem_classes="r-right"):
                figures = gr.HTML(elem_id="stats", padding=False)
                picture = gr.Plot(show_label=False, label="The moment in space", elem_id="scene")
                errors = gr.Plot(show_label=False, label="Error over the flight", elem_id="errors")
                with gr.Accordion("All methods on this flight", open=False) as more:
                    curves = gr.HTML(elem_id="curves")
                    methods = gr.HTML(elem_id="methods")
        inputs = [file, family, seed, weights, horizon, moment, window]
        outputs = [figures, picture, errors]
        answers(
            page,
            show,
            inputs,
            outputs,
            [family.change, file.change, seed.change, weights.change, horizon.change, moment.change],
            word="trajectory",
            name="predict",
            js=WIDTH,
        )
        more.expand(
            all_methods,
            inputs[:4],
            [curves, methods],
            api_name="methods",
            show_progress="full",
            concurrency_id="trajectory",
        )
        playing = run.click(
            live,
            [*inputs[:4], window],
            [figures, picture],
            api_name="replay",
            show_progress="hidden",
            concurrency_id="trajectory live",
            js=WIDTH,
        )
        stop.click(None, cancels=[playing], api_visibility="private")
    return page
