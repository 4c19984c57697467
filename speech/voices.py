"""The enhancement network for one voice: a clip of the wanted talker, 5 to 30 s of it, makes it.

model = for_voice("anna.wav")                # a Model like any other
clean = speech.enhance("meeting.wav", weights=model)
clean = speech.enhance("meeting.wav", voice="anna.wav")     # the same
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.errors import ConfigError, DataError
from speech.metrics import resampled, silent
from speech.model import Model, load_model
from speech.models.voice import LONGEST_S, RATE, VoiceNet
from speech.waves import as_wave

SHORTEST_S = 2.0
PAUSE_DB = -35.0
"""Frames this far below the loudest say nothing of a voice."""
AROUND = 9
"""Frames of 20 ms whose mean level counts for the middle one."""


def for_voice(
    clip: Any,
    rate: int | None = None,
    *,
    weights: str | Path | Model | None = None,
    device: str = "cpu",
) -> Model:
    """An enhancement network that keeps the voice of a clip alone; of the bundled weights when left out.

    `clip`: samples with their `rate`, or a path, bytes or open file of a sound; channels are averaged and
    pauses left out. What lies behind 30 s of speech is not needed.

    Raises:
        DataError: no sound, silence, or less than 2 s of speech.
        ConfigError: the weights are not of a network for voices.
    """
    samples, own_rate, _ = as_wave(clip, rate)
    name = str(clip) if isinstance(clip, str | Path) else "the clip of the voice"
    wave = spoken(resampled(samples.mean(1), own_rate, RATE))[: int(LONGEST_S * RATE)]
    if len(wave) < SHORTEST_S * RATE:
        raise DataError(
            f"{name}: holds {len(wave) / RATE:.1f} s of speech; a voice is known from {SHORTEST_S:.0f} s on."
        )
    model = weights if isinstance(weights, Model) else load_model(weights, "voice", device)
    if not isinstance(model.network, VoiceNet):
        raise ConfigError(f"{model.name} takes no voice; see the task voice in `recurra speech models`.")
    place = next(model.network.parameters()).device
    network = model.network.personal(torch.from_numpy(wave).to(place)).eval()
    mark = hashlib.sha256(wave.tobytes()).hexdigest()[:8]  # a stream's state is of one voice
    return Model(network, model.card, f"{model.name} for voice {mark}")


def spoken(wave: np.ndarray) -> np.ndarray:
    """A wave without its pauses, float32."""
    wave = np.ascontiguousarray(wave, np.float32)
    size = RATE // 50
    if silent(wave) or len(wave) < AROUND * size:
        return wave[:0]
    frames = wave[: len(wave) // size * size].reshape(-1, size)
    level = np.convolve(np.square(frames).mean(1), np.ones(AROUND) / AROUND, "same")
    return frames[level > level.max() * 10 ** (PAUSE_DB / 10)].reshape(-1)
