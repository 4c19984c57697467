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
from speech.stream import EnhanceStream
from speech.train import VALIDATION_SEED, Learning, build, gather, now

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
    """One row a unit, as it is done; a unit that cannot be used here has an `error` in place of figures.

    Raises:
        DataError, ConfigError: the data or the settings are wrong.
    """
    mixer, noisy, clean = mixtures(config, data, device)
    for unit in units:
        try:
            model, times = trained(unit, config, mixer, steps)
            yield {"unit": unit, **scored(model, noisy, clean), "step_s": statistics.median(times)}
        except RecurraError as error:
            yield {"unit": unit, "error": str(error)}


def mixtures(
    config: EnhanceRun, data: Sequence[str | Path], device: str
) -> tuple[Mixer, torch.Tensor, torch.Tensor]:
    """Who makes mixtures of training talkers, and noisy and clean clips (CLIPS, N) of held-out ones."""
    corpora, held = gather(data)
    check = Mixer(held, replace(config.mix, speed=0.0, clean=0.0), torch.device("cpu"))
    return Mixer(corpora, config.mix, torch.device(device)), *check.enhancement(VALIDATION_SEED, CLIPS)


def trained(unit: str, config: EnhanceRun, mixer: Mixer, steps: int) -> tuple[Any, list[float]]:
    """The network with a unit after so many steps, and the seconds of each."""
    model: Any = build("enhance", replace(config, model=replace(config.model, unit=unit))).to(mixer.device)
    step = Learning("enhance", mixer, config.batch)
    optimizer = torch.optim.AdamW(model.parameters(), config.loop.lr, weight_decay=config.loop.weight_decay)
    times = []
    for number in range(steps):
        rise = min(1.0, (number + 1) / max(1.0, WARMUP * steps))
        for group in optimizer.param_groups:
            group["lr"] = config.loop.lr * rise * 0.5 * (1 + math.cos(math.pi * number / steps))
        began = now(mixer.device)
        optimizer.zero_grad()
        step(model, number)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.loop.clip or math.inf)
        optimizer.step()
        times.append(now(mixer.device) - began)
    return model.eval().cpu(), times


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
