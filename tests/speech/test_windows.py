"""Networks that need whole waves, at their own rate, level and precision, on files of any kind."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from core.errors import ConfigError
from core.weights import Card, save
from speech.cli import app
from speech.layouts import build
from speech.metrics import si_sdr
from speech.model import load_model
from speech.models.depthwise import add_along, add_depthwise, taps_of
from speech.predict import enhance, separate
from speech.separation import SeparateStream
from speech.windows import WindowStream


class Half(torch.nn.Module):
    """Half as loud; remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.5))
        self.sizes: list[int] = []
        self.levels: list[float] = []

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        self.sizes.append(wave.shape[1])
        self.levels.append(float(wave.square().mean().sqrt()))
        return wave * self.gain


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((samples, channels)).astype(np.float32)


def run(stream: WindowStream, wave: np.ndarray, block: int = 5000) -> np.ndarray:
    parts = [stream.feed(wave[i : i + block]) for i in range(0, len(wave), block)]
    return np.concatenate([*parts, stream.flush()])


@pytest.mark.parametrize("samples", [1, 7999, 8000, 8001, 14000, 30011])
def test_windows_leave_no_seam(samples: int) -> None:
    out = run(WindowStream(Half(), 16000, window_s=0.5), noise(samples)[:, 0])
    np.testing.assert_allclose(out, 0.5 * noise(samples)[:, 0], atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_other_rates_keep_length_channels_and_the_band_above(rate: int) -> None:
    wave = noise(rate, 2)
    out = run(WindowStream(Half(), rate, 2, window_s=0.5), wave)
    assert out.shape == wave.shape
    middle = slice(rate // 5, -rate // 5)
    assert np.abs(out - 0.5 * wave)[middle].max() < 0.02


def test_limits_and_mixes_are_exact() -> None:
    wave = noise(16000)[:, 0]
    np.testing.assert_allclose(run(WindowStream(Half(), 16000, limit_db=0), wave), wave, atol=1e-6)
    half = run(WindowStream(Half(), 16000, mix=0.5), wave)
    np.testing.assert_allclose(half, 0.75 * wave, atol=1e-6)
    odd = {"each or mono": {"mode": "link"}, "mix": {"mix": 2}, "limit-db": {"limit_db": -1}}
    for said, words in odd.items():
        with pytest.raises(ConfigError, match=said):
            WindowStream(Half(), 16000, **words)  # pyright: ignore


def test_a_published_level_is_what_the_network_hears() -> None:
    network = Half()
    out = run(WindowStream(network, 16000, level_db=-25.0, window_s=0.5), noise(12000)[:, 0])
    np.testing.assert_allclose(out, 0.5 * noise(12000)[:, 0], atol=1e-6)
    np.testing.assert_allclose(network.levels, 10 ** (-25 / 20), rtol=1e-4)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Small random networks of published layouts."""
    folder = tmp_path_factory.mktemp("published")
    words: dict[str, tuple[str, dict[str, Any]]] = {
        "frcrn": ("enhance", {"channels": 16}),
        "mossformer2-ss": ("separate", {"in_channels": 16, "out_channels": 16, "num_blocks": 2}),
    }
    for layout, (task, options) in words.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = build(layout, options)
        settings = {"layout": layout, "options": options, "rate": 8000 if task == "separate" else 16000}
        save(folder / f"{layout}.safetensors", network, Card(task, layout, "none", "none", settings))
    return {layout: folder / f"{layout}.safetensors" for layout in words}


def test_files_go_through_published_enhancers(published: dict[str, Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(24000, 2), 48000)
    words = ["enhance", tmp_path / "a.wav", "-o", tmp_path / "b.wav", "--weights", published["frcrn"]]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert soundfile.read(tmp_path / "b.wav")[0].shape == (24000, 2)
    words[-3:-2] = [tmp_path / "c.wav", "--channels", "link"]
    assert "each or mono" in str(CliRunner().invoke(app, [str(word) for word in words]).exception)


def test_weights_of_8_khz_hear_8_khz(published: dict[str, Path]) -> None:
    model = load_model(published["mossformer2-ss"], "separate")
    assert (model.rate, model.level_db, model.talkers) == (8000, -25.0, 2)
    heard: list[int] = []
    model.network.register_forward_pre_hook(lambda _, given: heard.append(given[0].shape[-1]))
    tracks = separate(noise(16000)[:, 0], 16000, weights=model, gate_db=None)
    assert heard == [8000]
    np.testing.assert_allclose(tracks[0] + tracks[1], noise(16000)[:, 0], atol=1e-4)


def test_half_precision_is_near_single(published: dict[str, Path]) -> None:
    model = load_model(published["mossformer2-ss"], "separate")
    words: dict[str, Any] = {"own_rate": 8000, "gate_db": None, "consistent": False}
    wave = noise(8000)[:, 0]
    found = []
    for half in (False, True):
        stream = SeparateStream(model.network, 2, 8000, half=half, **words)
        found.append(np.concatenate([stream.feed(wave), stream.flush()], 1))
    one, other = found
    assert si_sdr(other[0], one[0]) > 40
    with pytest.raises(ConfigError, match="precision is"):
        separate(wave, 8000, weights=model, precision="float8")
    with pytest.raises(ConfigError, match="float32 only"):
        enhance(wave, 16000, precision="bfloat16")


def test_the_compiled_depthwise_convolution_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    cases = (
        (1, 3, 17, 8, 1),
        (40, 300, 17, 16, 1),
        (9, 5, 39, 19, 1),
        (131, 64, 17, 8, 1),
        (70, 48, 39, 38, 2),
    )
    for samples, width, taps, before, dilation in cases:
        x, start = (torch.randn(2, samples, width, generator=generator) for _ in range(2))
        weight = torch.randn(width, 1, taps, generator=generator)
        after = dilation * (taps - 1) - before
        padded = torch.nn.functional.pad(x.transpose(1, 2), (before, after))
        wanted = torch.nn.functional.conv1d(padded, weight, groups=width, dilation=dilation).transpose(1, 2)
        found = add_depthwise(x, weight, before, start, dilation=dilation)
        torch.testing.assert_close(found, start + wanted, rtol=1e-5, atol=1e-5)
        found = np.zeros((samples, 2, width), np.float32)  # rows side by side, as FRCRN's bins and frames lie
        rows = np.ascontiguousarray(x.transpose(0, 1).numpy())
        add_along(rows, taps_of(weight), before, dilation, found)
        torch.testing.assert_close(torch.from_numpy(found).transpose(0, 1), wanted, rtol=1e-5, atol=1e-5)
