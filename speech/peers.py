"""Other noise removers beside ours: GTCRN with its published weights, RNNoise where installed."""

from collections.abc import Callable
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import WeightsError
from speech.metrics import resampled

GTCRN_WEIGHTS = "gtcrn-dns3"
RNNOISE_DELAY = 959
"""Samples at 48 kHz that RNNoise comes late, found by correlation."""
Peer = Callable[[np.ndarray, int], np.ndarray]


def peers(device: str = "cpu") -> dict[str, Peer]:
    """Those that are here, by name."""
    found: dict[str, Peer] = {}
    try:
        found["gtcrn"] = gtcrn(device)
    except WeightsError:
        pass  # not bundled here
    if rnnoise_library() is not None:
        found["rnnoise"] = rnnoise
    return found


def gtcrn(device: str = "cpu") -> Peer:
    """GTCRN with the weights its authors trained on DNS3, through our own streams."""
    from speech.model import load_model
    from speech.predict import enhance

    model = load_model(GTCRN_WEIGHTS, "enhance", device)
    return lambda wave, rate: enhance(wave, rate, weights=model, device=device)


def rnnoise_library() -> Any:
    """The module of pyrnnoise that holds the compiled library; its package would ask for more."""
    spec = find_spec("pyrnnoise")
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0]) / "rnnoise.py"
    inner = spec_from_file_location("recurra_rnnoise", file)
    if inner is None or inner.loader is None:
        return None
    module = module_from_spec(inner)
    try:
        inner.loader.exec_module(module)
    except (OSError, ImportError, AttributeError):
        return None
    return module


def rnnoise(wave: np.ndarray, rate: int) -> np.ndarray:
    """RNNoise (Valin 2018, arXiv 1709.08243) at its 48 kHz, its delay taken off."""
    library = rnnoise_library()
    high = resampled(np.asarray(wave, np.float64), rate, 48000)
    size = int(library.FRAME_SIZE)
    padded = np.pad(high, (0, RNNOISE_DELAY + size))
    state = library.create()
    try:
        frames = [
            library.process_mono_frame(state, padded[i : i + size].clip(-1, 1).astype(np.float32))[0]
            for i in range(0, len(padded) - size + 1, size)
        ]
    finally:
        library.destroy(state)
    clean = np.concatenate(frames).astype(np.float64) / 32768
    back = resampled(clean[RNNOISE_DELAY : RNNOISE_DELAY + len(high)], 48000, rate)
    return np.pad(back, (0, max(0, len(wave) - len(back))))[: len(wave)]
