"""A tiny reader, trained for nothing, and generated pictures."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from core.config import replace
from core.weights import Card, save
from vision.ocr.codec import Codec
from vision.ocr.config import TrainConfig, defaults
from vision.ocr.models.presets import build

SMALL = {"model": {"channels": [4, 6, 8, 8], "hidden": 8}}


def small_config(task: str) -> TrainConfig:
    return replace(defaults(task), {**SMALL, "loop": {"epochs": 1, "warmup": 0.0}})


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights files of both tasks with random numbers."""
    files = {}
    for task in ("lines", "digits"):
        torch.manual_seed(1)
        config = small_config(task)
        codec = Codec(tuple("0123456789")) if task == "digits" else Codec(tuple(" abcdeé"))
        network = build(config, codec.size)
        extra = {"codec": codec.as_dict(), "line": asdict(config.line)}
        card = Card(f"ocr {task}", "lstm", "nothing", "none", asdict(config), extra=extra)
        files[task] = tmp_path_factory.mktemp(task) / "model.safetensors"
        save(files[task], network, card)
    return files


@pytest.fixture
def scribble() -> np.ndarray:
    """A grey line with some ink."""
    rng = np.random.default_rng(0)
    grey = np.full((50, 300), 220, np.uint8)
    for x in range(20, 280, 9):
        grey[15 : 35 + int(rng.integers(0, 8)), x : x + 3] = 40
    return grey
