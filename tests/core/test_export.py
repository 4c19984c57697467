"""ONNX graphs compute what torch computes."""

from pathlib import Path

import pytest
import torch

import core
from core import export, registry
from core.errors import ConfigError, WorkError
from core.export import export_network, export_sequence, export_step

COMPLEX = {"lru", "s4", "s4d", "s5"}
"""Units that compute with complex numbers, which ONNX does not have."""
REAL = [name for name in registry.names() if name not in COMPLEX]


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_every_real_unit_exports_one_step_and_any_length(name: str, tmp_path: Path) -> None:
    unit = core.build(name, 8)
    assert export_step(unit, tmp_path / "step.onnx") < 1e-5
    assert export_sequence(unit, tmp_path / "whole.onnx") < 1e-5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step.onnx", "whole.onnx"]


def test_a_matrix_state_exports_at_any_length(tmp_path: Path) -> None:
    assert export_sequence(core.build("gla", 8), tmp_path / "a.onnx") < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMPLEX))
def test_complex_units_say_that_onnx_cannot(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written as ONNX: it computes with complex"):
        export_step(core.build(name, 8), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_what_onnx_cannot_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise RuntimeError("conversion failed") from TypeError("complex64 is not supported\nand more")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ConfigError, match="LRU cannot be written as ONNX: complex64 is not supported"):
        export_step(core.build("lru", 8), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


class TwoHeads(torch.nn.Module):
    """wave (B, T) and gain (B,) -> level (B, T), its mean (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Linear(1, 1)

    def forward(self, wave: torch.Tensor, gain: torch.Tensor) -> dict[str, torch.Tensor] | tuple[object, ...]:
        level = self.scale(wave[..., None])[..., 0] * gain[:, None]
        return level, (level.mean(1),)


def test_a_network_exports_with_free_sizes_and_a_wrong_graph_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = {"wave": torch.randn(2, 9), "gain": torch.rand(2)}
    other = {"wave": torch.randn(3, 20), "gain": torch.rand(3)}
    free = {"wave": {0: "batch", 1: "time"}, "gain": {0: "batch"}}
    path, network = tmp_path / "net.onnx", TwoHeads()
    told = export_network(network, path, inputs, ["level", "mean"], free=free, check=other)
    assert told < 1e-6
    real = export.answers
    monkeypatch.setattr(export, "answers", lambda *given: [part + 1 for part in real(*given)])
    monkeypatch.setattr(export, "save_graph", lambda *given: given[5].write_bytes(path.read_bytes()))
    with pytest.raises(WorkError, match=r"graph of TwoHeads differs from torch by 1\."):
        export_network(network, tmp_path / "b.onnx", inputs, ["level", "mean"], free=free, check=other)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx"]
