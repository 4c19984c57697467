"""Sound files in and out. (Grows: see `read_mono` for the plain case.)"""

from pathlib import Path

import numpy as np

from core.errors import DataError

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".caf", ".w64", ".au", ".rf64"}


def read_mono(path: str | Path, rate: int) -> np.ndarray:
    """A recording as float32 (N,) at `rate`: channels averaged, resampled where needed.

    Raises:
        DataError: not a sound file, or empty.
    """
    import soundfile

    try:
        wave, own = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as sound ({error}).") from error
    if not len(wave):
        raise DataError(f"{path}: holds no samples.")
    mono = wave.mean(1)
    if own != rate:
        import soxr

        mono = soxr.resample(mono, own, rate, quality="VHQ")
    return np.ascontiguousarray(mono, dtype=np.float32)
