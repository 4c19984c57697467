"""Speed of live prediction at the published size (64, 2), beside torch, onnxruntime and a Kalman filter.

`recurra bench trajectory`. All peers get the same window of 21 positions and answer 20 steps.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from apps.trajectory.baselines import BASELINES
from apps.trajectory.config import ModelConfig, WindowConfig
from apps.trajectory.fast import FastEngine
from apps.trajectory.models.predictor import Predictor
from apps.trajectory.samples import Sample, parse_sample
from apps.trajectory.stream import Stream, StreamConfig, run
from core.bench.runner import Case

SIZES = "hidden 64, layers 2, T 20"
LIVE = "100 tracks at 100 Hz, answers every 0.1 s"
TRACKS, RATE_HZ = 100, 100
"""A sample of that stream may cost 100 us where one core is to keep up."""
Calls = tuple[Callable[[], Any], Callable[[], Any] | None]


def cases() -> list[Case]:
    """Full window and stateful step, each beside its peers."""
    return [
        Case("trajectory window", SIZES, window_beside_torch, "eager torch", limit_us=80),
        Case("trajectory window", SIZES, window_beside_onnxruntime, "onnxruntime", limit_us=80),
        Case("trajectory window", SIZES, window_beside_kalman, "Kalman filter", limit_us=80),
        Case("trajectory stateful step", SIZES, step_beside_torch, "eager torch", limit_us=40),
        Case("trajectory window, mixed and mirrored", SIZES, mixed_beside_plain, "the network alone", 4.0),
        Case("trajectory live sample", LIVE, value=live_sample, unit="us", at_most=100),
        Case("trajectory live answer, p99", LIVE, value=client_p99, unit="us", at_most=5000),
    ]


def network(*, stateful: bool, whole: bool = False) -> Predictor:
    """The network of the published size; `whole` with the simple answers and the mirror image."""
    kind = "mixture" if whole else "residual_over_cv"
    config = ModelConfig(hidden=64, layers=2, stateful=stateful, representation=kind, mirror=whole)
    return Predictor(config, WindowConfig()).eval()


def flight() -> np.ndarray:
    """One window (21, 3) of a smooth flight, metres."""
    return np.random.default_rng(0).standard_normal((21, 3)).cumsum(0) * 0.1


def window_beside_torch() -> Calls:
    model, past = network(stateful=False), flight()
    engine, batch = FastEngine(model), torch.from_numpy(past)[None]

    @torch.no_grad()
    def peer() -> Any:
        return model(batch)

    return lambda: engine.window(past), peer


def window_beside_onnxruntime() -> Calls:
    from apps.trajectory.export import export_onnx, session

    model, past = network(stateful=False), flight()
    engine = FastEngine(model)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(model, path)
        run = session(path)
    batch = past[None]
    return lambda: engine.window(past), lambda: run(batch)


def window_beside_kalman() -> Calls:
    engine, past = FastEngine(network(stateful=False)), flight()
    batch = past[None]
    return lambda: engine.window(past), lambda: BASELINES["kalman_cv"](batch, 0.1, 20)


def mixed_beside_plain() -> Calls:
    """What the simple answers and the mirror image cost beside the network alone, both compiled."""
    whole, plain, past = (
        FastEngine(network(stateful=False, whole=True)),
        FastEngine(network(stateful=False)),
        flight(),
    )
    return lambda: whole.window(past), lambda: plain.window(past)


def live_sample() -> float:
    """Microseconds of a sample of a hundred tracks in turn, over whole seconds: one in ten is answered."""
    stream = Stream(FastEngine(network(stateful=False, whole=True)), StreamConfig(every_s=0.1))
    speeds = np.random.default_rng(0).normal(0, 5, (TRACKS, 3))
    took = []
    for second in range(4):
        begin = time.perf_counter()
        for moment in range(second * RATE_HZ, (second + 1) * RATE_HZ):
            for track, place in enumerate((speeds * (moment / RATE_HZ)).tolist()):
                stream.feed(Sample(moment / RATE_HZ, track, tuple(place)))
        took.append((time.perf_counter() - begin) / (TRACKS * RATE_HZ) * 1e6)
    return float(np.median(took[1:]))  # answers come from the fourth sample on


def client_p99() -> float:
    """Microseconds from the line of a sample to the line of its answer: of a hundred, the slowest.

    Three seconds of the stream as JSON lines through `run`, as fast as it goes; parsing is in it.
    """
    stream = Stream(FastEngine(network(stateful=False, whole=True)), StreamConfig(every_s=0.1))
    rng = np.random.default_rng(0)
    speeds = rng.normal(0, 5, (TRACKS, 3))
    sent = (
        parse_sample(
            json.dumps({"t": moment / RATE_HZ, "id": track, "p": (speed * moment / RATE_HZ).tolist()})
        )
        for moment in range(3 * RATE_HZ)
        for track, speed in enumerate(speeds)
    )
    counters = run(stream, sent, lambda line: None, lambda text: None)
    return float(np.percentile(counters.client_us[len(counters.client_us) // 3 :], 99))


def step_beside_torch() -> Calls:
    model, past = network(stateful=True), flight()
    engine = FastEngine(model)
    state = engine.begin(past[0])
    for position in past[1:5]:
        state = engine.step(state, position)
    velocities = torch.from_numpy(np.diff(past, axis=0) / 0.1).float()
    with torch.no_grad():
        carried = model.initial_state(velocities[:1])
        _, carried = model.step(velocities[:1], carried)

    @torch.no_grad()
    def peer() -> Any:
        return model.step(velocities[1:2], carried)

    return lambda: engine.forecast(engine.step(state, past[5])), peer
