"""Trajectory page: drop a log or draw a flight, see prediction, 90 % tube, baselines, error, live replay."""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import plotly.graph_objects as go

from apps.trajectory.baselines import BASELINES
from apps.trajectory.data import Segment, Track, read_tracks, resample
from apps.trajectory.engine import engine_for
from apps.trajectory.predict import DEFAULT, Model, load_model, predict_along
from apps.trajectory.stream import Sample, Stream
from apps.trajectory.synth import FAMILIES, generate, recorded
from core.bundled import bundled
from core.errors import RecurraError
from demos.theme import BASELINE, OURS, PALETTE, TRUTH, TUBE

SHOWN = ("constant_velocity", "kalman_cv", "ctrv")
"""Baselines drawn beside the model."""
MOST_SAMPLES = 200_000
AROUND_S = 15.0
"""Seconds of the track that the scene shows before and after the moment."""
RING = 12
"""Corners of the tube's rings."""


def generated(family: str, seed: float) -> Track:
    """One flight of a family."""
    return recorded(generate(int(seed), 1, split="test", families=[family], duration_s=40.0)[0])


@lru_cache(maxsize=4)
def uploaded(path: str, changed_ns: int) -> Track:
    """The longest track of an uploaded file."""
    tracks = read_tracks(path)
    return max(tracks, key=len)


def chosen(file: str | None, family: str, seed: float) -> Track:
    """The uploaded track, or a generated one without an upload.

    Raises:
        gr.Error: the file cannot be read, lies elsewhere, or is too long for a page.
    """
    if file is None:
        return generated(family, seed)
    path = Path(file).resolve()
    home = Path(os.environ.get("GRADIO_TEMP_DIR", "/nowhere")).resolve()
    if not path.is_relative_to(home):
        raise gr.Error("Only uploaded files can be opened here.")
    try:
        track = uploaded(str(path), path.stat().st_mtime_ns)
    except (RecurraError, OSError) as error:
        raise gr.Error(str(error).replace(str(path.parent) + "/", "")) from error
    if len(track) > MOST_SAMPLES:
        raise gr.Error(f"The track has {len(track)} samples; this page takes {MOST_SAMPLES}.")
    return track


def longest(track: Track, model: Model) -> Segment:
    """The longest unbroken stretch at the model's rhythm.

    Raises:
        gr.Error: it is too short for one prediction and its outcome.
    """
    piece = max(resample(track, model.dt), key=len)
    needed = model.history + model.horizon
    if len(piece) < needed or piece.positions.shape[1] < model.dims:
        raise gr.Error(
            f"The longest stretch has {len(piece)} samples at {1 / model.dt:g} Hz; "
            f"a prediction with its outcome needs {needed}, in {model.dims} coordinates."
        )
    return piece


def show(
    file: str | None, family: str, seed: float, weights: str, horizon_s: float, moment: float
) -> tuple[go.Figure, go.Figure, str]:
    """Scene, error over time and a summary for one moment (0..1) of the flight."""
    track, model = chosen(file, family, seed), load_model(weights)
    piece = longest(track, model)
    steps = min(round(horizon_s / model.dt), model.horizon)
    last = len(piece) - steps - 1
    index = int(np.clip(round(moment * last), model.history - 1, last))
    errors = errors_over_time(piece, model, steps)
    picture = scene(piece, model, index, steps)
    ours, straight = errors["model"], errors["constant_velocity"]
    inside = errors["inside"]
    summary = (
        f"{track.name}: {len(piece)} samples at {1 / model.dt:g} Hz. "
        f"Mean error after {steps * model.dt:.1f} s: {ours.mean():.2f} m "
        f"(constant velocity {straight.mean():.2f} m). "
        f"The 90 % ball held {100 * inside.mean():.0f} % of {len(ours)} outcomes."
    )
    if horizon_s > model.horizon * model.dt + 1e-9:
        summary += f" The model ends at {model.horizon * model.dt:.1f} s; beyond it there is no answer."
    return picture, error_figure(errors, steps * model.dt), summary


def errors_over_time(piece: Segment, model: Model, steps: int) -> dict[str, np.ndarray]:
    """Distance at the horizon for every sample that has an outcome, for the model and the baselines."""
    found = predict_along(piece, model, stride=1)
    ends = np.arange(model.history - 1, model.history - 1 + len(found))
    keep = ends + steps < len(piece)
    ends, found = ends[keep], [one for one, kept in zip(found, keep, strict=True) if kept]
    positions = piece.positions[:, : model.dims]
    truth = positions[ends + steps]
    ours = np.stack([one.mean[steps - 1] for one in found])
    error = np.linalg.norm(ours - truth, axis=1)
    radius = np.array([np.inf if one.radius is None else one.radius[steps - 1] for one in found])
    past = np.stack([positions[end - model.history + 1 : end + 1] for end in ends])
    errors = {"time": piece.t0 + ends * piece.dt, "model": error, "inside": error <= radius}
    for name in SHOWN:
        answer = BASELINES[name](past, model.dt, steps)
        errors[name] = np.linalg.norm(answer[:, -1] - truth, axis=1)
    return errors


def error_figure(errors: dict[str, np.ndarray], horizon_s: float) -> go.Figure:
    """Error at the horizon over the flight."""
    figure = go.Figure()
    time = errors["time"].astype(np.float32)
    for name, colour in zip(SHOWN, PALETTE[3:], strict=False):
        figure.add_scatter(
            x=time, y=errors[name].astype(np.float32), name=label(name), line={"color": colour, "width": 1}
        )
    figure.add_scatter(
        x=time, y=errors["model"].astype(np.float32), name="model", line={"color": OURS, "width": 2}
    )
    figure.update_layout(
        height=300,
        margin={"l": 50, "r": 10, "t": 30, "b": 40},
        title=f"Error after {horizon_s:.1f} s",
        xaxis_title="time (s)",
        yaxis_title="error (m)",
        legend={"orientation": "h", "y": 1.15, "x": 1, "xanchor": "right"},
    )
    return figure


def label(name: str) -> str:
    return name.replace("_", " ")


def scene(piece: Segment, model: Model, index: int, steps: int) -> go.Figure:
    """Track, history, outcome, prediction with its tube, and the baselines, from sample `index`."""
    positions = piece.positions[:, : model.dims]
    past = positions[index - model.history + 1 : index + 1]
    forecast = model.forecast(past[None])
    path = np.concatenate([past[-1:], forecast.mean[0, :steps].numpy()])
    factor = model.factor(0.9)
    figure = go.Figure()
    around = round(AROUND_S / piece.dt)
    nearby = positions[max(0, index - around) : index + around]
    add_path(figure, nearby, "track", {"color": BASELINE, "width": 2}, 0.5)
    add_path(figure, past, "history", {"color": TRUTH, "width": 6})
    add_path(
        figure,
        positions[index : index + steps + 1],
        "what happened",
        {"color": TRUTH, "width": 4, "dash": "dot"},
    )
    for name, colour in zip(SHOWN, PALETTE[3:], strict=False):
        answer = BASELINES[name](past[None], model.dt, steps)[0]
        add_path(figure, np.concatenate([past[-1:], answer]), label(name), {"color": colour, "width": 3})
    if factor is not None:
        radius = np.concatenate([[0.0], factor[:steps] * forecast.spread[0, :steps].numpy()])
        figure.add_trace(tube(flat3(path), radius))
    add_path(figure, path, "model", {"color": OURS, "width": 8})
    figure.update_layout(
        height=520,
        scene_aspectmode="data",
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
        scene={"xaxis_title": "east (m)", "yaxis_title": "north (m)", "zaxis_title": "up (m)"},
        legend={"orientation": "h", "y": 0.02},
        uirevision="keep the view",
    )
    return figure


def flat3(path: np.ndarray) -> np.ndarray:
    """(n, 3) float32; a plane track gets height zero."""
    path = path[:, :3]
    padding = np.zeros((len(path), 3 - path.shape[1]))
    return np.concatenate([path, padding], 1).astype(np.float32)


def add_path(
    figure: go.Figure, path: np.ndarray, name: str, line: dict[str, Any], opacity: float = 1.0
) -> None:
    x, y, z = flat3(path).T
    figure.add_scatter3d(x=x, y=y, z=z, mode="lines", name=name, line=line, opacity=opacity)


def tube(path: np.ndarray, radius: np.ndarray) -> go.Mesh3d:
    """A surface around a path (n, 3) at a radius per point."""
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
        color=TUBE.replace("0.16", "1"),
        opacity=0.16,
        name="90 % tube",
        showlegend=True,
        hoverinfo="skip",
    )


def replay(file: str | None, family: str, seed: float, weights: str) -> Iterator[tuple[go.Figure, str]]:
    """The flight sample by sample through the live stream, as a page that changes."""
    track, model = chosen(file, family, seed), load_model(weights)
    piece = longest(track, model)
    stream = Stream(engine_for(model))
    positions = piece.positions[:, : model.dims]
    steps = min(10, model.horizon)
    shown_every = max(1, (len(positions) - model.history - steps) // 24)
    for index, position in enumerate(positions[: len(positions) - steps]):
        line = stream.feed(Sample(index * piece.dt, track.name, tuple(position.tolist())))
        if line is None or index % shown_every:
            continue
        error = float(np.linalg.norm(np.asarray(line["mean"][steps - 1]) - positions[index + steps]))
        text = (
            f"t = {piece.t0 + line['t']:.1f} s: predicted in {line['latency_us']:.0f} us; "
            f"after {steps * piece.dt:.1f} s it was {error:.2f} m off"
        )
        yield scene(piece, model, index, steps), text
    counters = stream.counters.summary()
    done = f"{counters['predictions']} predictions, median {counters['latency_p50_us']:.0f} us each"
    yield scene(piece, model, len(positions) - steps - 1, steps), f"Replay done: {done}."


def build() -> gr.Blocks:
    """The page."""
    models = [row["name"] for row in bundled() if row["task"] == "trajectory"] or [DEFAULT]
    with gr.Blocks(title="Recurra: trajectory", analytics_enabled=False) as demo:
        gr.Markdown(
            "## Where will it be?\n"
            "Drop a flight log (TUM, EuRoC, KITTI, CSV, Parquet, ULog, geographic CSV), or draw one from "
            "the generator. Nothing leaves this machine."
        )
        with gr.Row():
            with gr.Column(scale=1):
                file = gr.File(label="Flight log", elem_id="log", type="filepath")
                family = gr.Dropdown(list(FAMILIES), value="racing", label="Generated flight")
                seed = gr.Number(value=0, precision=0, label="Seed", minimum=0)
                weights = gr.Dropdown(models, value=models[0], label="Model")
                horizon = gr.Slider(0.1, 3.0, value=1.0, step=0.1, label="Horizon (s)")
                moment = gr.Slider(0.0, 1.0, value=0.5, step=0.01, label="Moment of the flight")
                run = gr.Button("Predict", variant="primary")
                live = gr.Button("Live replay")
                stop = gr.Button("Stop")
            with gr.Column(scale=2):
                picture = gr.Plot(label="Scene", elem_id="scene")
                summary = gr.Textbox(label="Summary", elem_id="summary")
                errors = gr.Plot(label="Error over time", elem_id="errors")
        inputs = [file, family, seed, weights, horizon, moment]
        run.click(show, inputs, [picture, errors, summary], api_name="predict")
        moment.release(show, inputs, [picture, errors, summary], api_visibility="private")
        playing = live.click(replay, inputs[:4], [picture, summary], api_name="replay")
        stop.click(None, cancels=[playing], api_visibility="private")
    return demo
