"""The enhancement network with other recurrent units over time, trained alike: `recurra speech units`.

Each unit is a run of its own, `OUT/<unit>`, of as many steps on the same mixtures in the same order, which
resumes as every run does; only the unit differs. The table says what each reached on held-out talkers and
noises, and what a step and a live stream cost here and now, whenever the steps were done.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from core.errors import RecurraError
from speech import metrics
from speech.config import EnhanceRun
from speech.dynamic import RATE, Mixer
from speech.loss import enhancement_loss
from speech.model import load_model
from speech.stream import EnhanceStream
from speech.train import VALIDATION_SEED, build, gather, now, train

UNITS = ("gru", "lstm", "min_gru", "hgrn", "mamba2", "gated_delta_net", "rwkv7", "fsmn")
COLUMNS = {
    "parameters": "parameters",
    "si_sdr": "SI-SDR dB",
    "pesq_wb": "PESQ-wb",
    "stoi": "STOI",
    "step_s": "s per step",
    "real_time": "live, of real time",
}
VALIDATIONS = 5
"""In a run whose steps they divide."""
CLIPS, CLIP_S = 24, 3.0
"""Held-out mixtures that are scored, and their length."""
LIVE_S = 2.0
TIMED_STEPS = 5
OVER = "time was over; go on with --resume"


def compare(
    units: Sequence[str],
    config: EnhanceRun,
    data: Sequence[str | Path],
    steps: int,
    out: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    minutes: float | None = None,
    quiet: bool = True,
) -> Iterator[dict[str, Any]]:
    """One row for the input, then one a unit, in their order; a unit that cannot be used here, or that time
    did not suffice for, has an `error` in place of figures.

    Raises:
        DataError, ConfigError: the data or the settings are wrong; a run is there and `resume` is off.
    """
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    parts = VALIDATIONS if steps % VALIDATIONS == 0 else 1
    corpora, held = gather(data)
    easy = replace(config.mix, speed=0.0, clean=0.0, seconds=CLIP_S)
    noisy, clean = Mixer(held, easy, torch.device("cpu")).enhancement(VALIDATION_SEED, CLIPS)
    mixer = Mixer(corpora, config.mix, torch.device(device))
    yield {"unit": "input", **reached(noisy, clean)}
    for unit in units:
        try:
            one = replace(config, steps=steps // parts, model=replace(config.model, unit=unit))
            build("enhance", one)
        except RecurraError as error:
            yield {"unit": unit, "error": str(error)}
            continue
        left = (end - time.monotonic()) / 60
        if left <= 0:
            yield {"unit": unit, "error": OVER}
            continue
        loop = replace(config.loop, epochs=parts, max_minutes=None if math.isinf(left) else left)
        one, place = replace(one, loop=loop), out / unit
        going = "auto" if resume else False
        outcome = train("enhance", one, place, data, device=device, resume=going, quiet=quiet)
        if outcome.stopped == "time":
            yield {"unit": unit, "error": OVER}
            continue
        model: Any = load_model(outcome.weights, "enhance").network
        yield {"unit": unit, **scored(model, noisy, clean), "step_s": step_cost(one, mixer)}


def scored(model: Any, noisy: torch.Tensor, clean: torch.Tensor) -> dict[str, Any]:
    """What a network on the CPU reached, and what it costs."""
    with torch.inference_mode():
        found = model(noisy)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **reached(found, clean),
        "real_time": live_cost(model, noisy[0]),
    }


def reached(found: torch.Tensor, clean: torch.Tensor) -> dict[str, float | None]:
    """Means over clips."""
    scores = [
        metrics.every(estimate.numpy(), truth.numpy(), RATE)
        for estimate, truth in zip(found, clean, strict=True)
    ]
    means = metrics.mean(scores)
    return {name: means[name] for name in ("si_sdr", "pesq_wb", "stoi")}


def step_cost(config: EnhanceRun, mixer: Mixer) -> float:
    """Seconds of a step of training with its mixtures: the median of a few, by a network of its own."""
    model, device = build("enhance", config).to(mixer.device), mixer.device
    optimizer = torch.optim.AdamW(model.parameters(), config.loop.lr)
    half = nullcontext()
    if config.loop.precision != "float32":
        half = torch.autocast(device.type, getattr(torch, config.loop.precision))
    times = []
    for number in range(1 + TIMED_STEPS):
        began = now(device)
        with torch.no_grad():
            noisy, clean = mixer.enhancement(number, config.batch)
        optimizer.zero_grad()
        with half:
            estimate = model(noisy)
        enhancement_loss(estimate.float(), clean)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.loop.clip or math.inf)
        optimizer.step()
        times.append(now(device) - began)
    return statistics.median(times[1:])


def live_cost(model: Any, wave: torch.Tensor) -> float:
    """Computing time per time of sound, in blocks of 10 ms."""
    stream = EnhanceStream(model)
    stream.warm()
    size = RATE // 100
    samples = wave[: int(LIVE_S * RATE)].numpy()
    began = time.perf_counter()
    for start in range(0, len(samples), size):
        stream.feed(samples[start : start + size])
    return (time.perf_counter() - began) * RATE / len(samples)
