"""What several files of speech's tests stand on."""

import pytest
import torch

from core.weights import Card, save
from speech.models.enhance import EnhanceConfig, EnhanceNet
from speech.models.separate import SeparateConfig, SeparateNet

ENHANCE = {"channels": 8, "blocks": 1, "band_hidden": 6, "time_hidden": 8, "shared": 3, "whole_hidden": 16}
SEPARATE = {"bands": 8, "channels": 8, "shared": 3, "layers": 1, "whole_hidden": 8, "blocks": 1, "hidden": 8}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Small networks as files: what is tested with them does not depend on how well they listen."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = {
            "enhance": (EnhanceNet(EnhanceConfig(**ENHANCE)), ENHANCE),
            "separate": (SeparateNet(SeparateConfig(**SEPARATE)), SEPARATE),
        }
    for task, (network, sizes) in networks.items():
        save(folder / f"{task}.safetensors", network, Card(task, "lstm", "none", "none", {"model": sizes}))
    return {task: str(folder / f"{task}.safetensors") for task in networks}
