"""The sound of films and of m4a files, through the package av (extra `media`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import DataError
from core.terminal import need
from speech.sound import Sound, reason


@contextmanager
def open_media(path: Path) -> Iterator[Sound]:
    """The first sound track of a film.

    Raises:
        MissingExtraError: the package av is not installed.
        DataError: no film, or one without sound.
    """
    need("media", "av")
    import av

    try:
        film: Any = av.open(str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no sound that can be read ({reason(error)}).") from error
    with film:
        if not film.streams.audio:
            raise DataError(f"{path}: holds no sound.")
        track = film.streams.audio[0]
        rate, channels = int(track.rate), int(track.channels)
        length = round(float(track.duration * track.time_base) * rate) if track.duration else -1

        def source(size: int) -> Iterator[np.ndarray]:
            change = av.AudioResampler(format="flt", layout=track.layout.name, rate=rate)
            left = length if length > 0 else None  # the codec pads its last frame
            try:
                for frame in film.decode(track):
                    for part in change.resample(frame):
                        block = part.to_ndarray().reshape(-1, channels).astype(np.float32)
                        block = block if left is None else block[:left]
                        left = None if left is None else left - len(block)
                        if len(block):
                            yield block
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: breaks off in the middle ({reason(error)}).") from error

        yield Sound(path, rate, channels, "PCM_16", "MEDIA", length, source)
