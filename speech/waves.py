"""Sound as callers have it: arrays, tensors, bytes, paths and open files, answered in kind."""

import io
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError
from speech.audio import read_sound
from speech.sound import odd_samples


def as_wave(wave: Any, rate: int | None) -> tuple[np.ndarray, int, Any]:
    """Samples (N, C), their rate, and what gives an answer the caller's form.

    Raises:
        ConfigError: samples without a rate. DataError: no sound.
    """
    if isinstance(wave, str | Path):
        samples, rate = read_sound(wave)
        return samples, rate, squeezed(samples.shape[1])
    if isinstance(wave, bytes | bytearray) or hasattr(wave, "read"):
        import soundfile

        try:
            source = io.BytesIO(wave) if isinstance(wave, bytes | bytearray) else wave
            samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(f"these bytes are no sound file ({error}).") from error
        return checked(samples), int(rate), squeezed(samples.shape[1])
    if rate is None:
        raise ConfigError("samples need their rate: enhance(wave, 16000).")
    import torch

    tensor = isinstance(wave, torch.Tensor)
    like = wave.device if tensor else None
    array = wave.detach().cpu().numpy() if tensor else np.asarray(wave)
    if np.issubdtype(array.dtype, np.integer):
        array = array.astype(np.float32) / float(2 ** (8 * array.dtype.itemsize - 1))
    if array.ndim not in (1, 2):
        raise DataError(f"a wave has the shape (N,) or (N, channels), got {array.shape}.")
    flat = array.ndim == 1
    samples = checked(np.asarray(array, np.float32).reshape(len(array), -1))

    def shape(out: np.ndarray) -> Any:
        out = out if flat or out.ndim == 2 else out[:, None]
        return torch.from_numpy(np.ascontiguousarray(out)).to(like) if tensor else out

    return samples, int(rate), shape


def squeezed(channels: int) -> Any:
    """Answers to files: (N,) for one channel, (N, C) for several."""
    return lambda out: out


def checked(samples: np.ndarray) -> np.ndarray:
    """Samples with something in them, all finite.

    Raises:
        DataError: there is nothing in them, or what is no sound.
    """
    if not samples.size:
        raise DataError("this wave holds no samples.")
    if odd_samples(samples).any():
        raise DataError("this wave holds samples that are no finite numbers, or beyond all sound.")
    return samples
