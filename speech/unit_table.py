"""The enhancement network with other recurrent units over time, trained alike: `recurra speech units`.

Same data, same mixtures in the same order, same number of steps, same rate; only the unit differs. The table
says what each reached on held-out talkers and noises, what a step cost, and what a live stream costs.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from core.errors import RecurraError
from speech import metrics
from speech.config import EnhanceRun
from speech.dynamic import RATE, Mixer
from speech.loss import enhancement_loss
from speech.stream import EnhanceStream
from speech.train import VALIDATION_SEED, build, gather, now

UNITS = ("gru", "lstm", "min_gru", "hgrn", "mamba2", "gated_delta_net", "rwkv7", "fsmn")
COLUMNS = {
    "parameters": "parameters",
    "si_sdr": "SI-SDR dB",
    "pesq_wb": "PESQ-wb",
    "step_s": "s per step",
    "real_time": "live, of real time",
}
WARMUP = 0.05
CLIPS = 48
"""Held-out mixtures that are scored."""
LIVE_S = 2.0


def compare(
    units: Sequence[str],
    config: EnhanceRun,
    data: Sequence[str | Path],
    steps: int,
    device: str = "cpu",
) -> Iterator[dict[str, Any]]:
    """One row a unit, in their order; a unit that cannot be used here has an `error` in place of figures.

    Raises:
        DataError, ConfigError: the data or the settings are wrong.
    """
    mixer, noisy, clean = mixtures(config, data, device)
    models, errors = built(units, config, mixer.device)
    times = trained(models, config, mixer, steps)
    for unit in units:
        if unit in errors:
            yield {"unit": unit, "error": errors[unit]}
        else:
            model = models[unit].eval().cpu()
            yield {"unit": unit, **scored(model, noisy, clean), "step_s": statistics.median(times[unit])}


def mixtures(
    config: EnhanceRun, data: Sequence[str | Path], device: str
) -> tuple[Mixer, torch.Tensor, torch.Tensor]:
    """Who makes mixtures of training talkers, and noisy and clean clips (CLIPS, N) of held-out ones."""
    corpora, held = gather(data)
    check = Mixer(held, replace(config.mix, speed=0.0, clean=0.0), torch.device("cpu"))
    return Mixer(corpora, config.mix, torch.device(device)), *check.enhancement(VALIDATION_SEED, CLIPS)


def built(
    units: Sequence[str], config: EnhanceRun, device: torch.device
) -> tuple[dict[str, Any], dict[str, str]]:
    """The network with each unit, and why there is none with some."""
    models: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for unit in units:
        try:
            one = replace(config, model=replace(config.model, unit=unit))
            models[unit] = build("enhance", one).to(device)
        except RecurraError as error:
            errors[unit] = str(error)
    return models, errors


def trained(models: dict[str, Any], config: EnhanceRun, mixer: Mixer, steps: int) -> dict[str, list[float]]:
    """Train all networks side by side, each on every mixture; gives the seconds of their steps.

    A step's time holds that of its mixtures, which are made once for all.
    """
    decay = config.loop.weight_decay
    optimizers = {
        unit: torch.optim.AdamW(model.parameters(), config.loop.lr, weight_decay=decay)
        for unit, model in models.items()
    }
    times: dict[str, list[float]] = {unit: [] for unit in models}
    for number in range(steps):
        rise = min(1.0, (number + 1) / max(1.0, WARMUP * steps))
        rate = config.loop.lr * rise * 0.5 * (1 + math.cos(math.pi * number / steps))
        began = now(mixer.device)
        with torch.no_grad():
            noisy, clean = mixer.enhancement(number, config.batch)
        drawn = now(mixer.device) - began
        for unit, model in models.items():
            began = now(mixer.device)
            optimizers[unit].param_groups[0]["lr"] = rate
            optimizers[unit].zero_grad()
            enhancement_loss(model(noisy), clean)["loss"].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.loop.clip or math.inf)
            optimizers[unit].step()
            times[unit].append(drawn + now(mixer.device) - began)
    return times


def scored(model: Any, noisy: torch.Tensor, clean: torch.Tensor) -> dict[str, Any]:
    """What a network on the CPU reached, and what it costs."""
    with torch.inference_mode():
        found = model(noisy)
    scores = [
        metrics.every(estimate.numpy(), truth.numpy(), RATE)
        for estimate, truth in zip(found, clean, strict=True)
    ]
    means = metrics.mean(scores)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "si_sdr": means["si_sdr"],
        "pesq_wb": means["pesq_wb"],
        "real_time": live_cost(model, noisy[0]),
    }


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
