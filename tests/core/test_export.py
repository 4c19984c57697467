"""ONNX graphs and the streamer on top of them compute what torch computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import core
from core import export, registry
from core.errors import ConfigError, WorkError
from core.export import export_network, export_sequence, export_step
from core.state import map_state
from core.streaming import Streamer

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


@pytest.mark.heavy
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


@pytest.fixture(scope="module")
def stream() -> tuple[object, Streamer]:
    """Two layers and their streamer: one export that both tests below ask."""
    torch.manual_seed(0)
    unit = core.stack("gru", 8, 6, layers=2).eval()
    return unit, Streamer(unit, batch=2)


@pytest.mark.heavy
def test_the_streamer_follows_the_stack(stream: tuple[Any, Streamer]) -> None:
    follow(*stream)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "mamba", "gated_delta_net"])
def test_the_streamer_follows_the_unit(name: str) -> None:
    unit = core.build(name, 8).eval()
    follow(unit, Streamer(unit, batch=2))


def follow(unit: Any, streamer: Streamer) -> None:
    """A stream gives what the unit gives, can be set back, and can begin anew."""
    x = torch.randn(2, 9, 8)
    with torch.no_grad():
        expected, _ = unit(x)
    outputs = [streamer.step(token.numpy()) for token in x.unbind(1)]
    np.testing.assert_allclose(np.stack(outputs, 1), expected, atol=1e-5)
    halfway = map_state(torch.clone, streamer.state)
    first = streamer.step(x[:, 0].numpy())
    streamer.state = halfway
    np.testing.assert_array_equal(streamer.step(x[:, 0].numpy()), first)
    streamer.reset()
    np.testing.assert_allclose(streamer.step(x[:, 0].numpy()), expected[:, 0], atol=1e-5)


@pytest.mark.heavy
def test_a_stream_names_wrong_shapes(stream: tuple[Any, Streamer]) -> None:
    streamer = stream[1]
    with pytest.raises(ValueError, match=r"takes x of shape \(2, 8\), got \(1, 8\)"):
        streamer.step(np.zeros((1, 8), np.float32))
    with pytest.raises(ValueError, match=r"state of shape \(.*\), got \(3, 8\)"):
        streamer.state = torch.zeros(3, 8)


class TwoHeads(torch.nn.Module):
    """wave (B, T) and gain (B,) -> level (B, T), its mean (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Linear(1, 1)

    def forward(self, wave: torch.Tensor, gain: torch.Tensor) -> dict[str, torch.Tensor] | tuple[object, ...]:
        level = self.scale(wave[..., None])[..., 0] * gain[:, None]
        return level, (level.mean(1),)


@pytest.mark.heavy
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
