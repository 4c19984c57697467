"""The causal TF-GridNet goes frame by frame with the numbers of a whole wave, and does not look ahead."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from core.errors import ConfigError
from speech.cli import app
from speech.live_separation import LiveSeparation
from speech.model import load_model, sizes_of
from speech.models.causal_grid import CausalGrid, CausalGridConfig
from speech.predict import separate

SIZES = CausalGridConfig(
    n_fft=64, n_layers=2, lstm_hidden_units=6, attn_n_head=2, attn_approx_qk_dim=40, emb_dim=4, look_back=5
)


@pytest.fixture(scope="module")
def network() -> CausalGrid:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CausalGrid(SIZES).eval()


@pytest.mark.parametrize("cuts", [[1], [3, 1], [7], [20]])
def test_frames_in_any_pieces_give_the_whole(network: CausalGrid, cuts: list[int]) -> None:
    spectra = torch.randn(2, 20, 33, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole, _ = network.tracks(spectra)
        state, parts, place, turn = network.initial_state(spectra), [], 0, 0
        while place < 20:
            size = cuts[turn % len(cuts)]
            found, state = network.tracks(spectra[:, place : place + size], state)
            parts.append(found)
            place, turn = place + size, turn + 1
    assert whole.shape == (2, 2, 20, 33)
    torch.testing.assert_close(torch.cat(parts, 2), whole, rtol=1e-4, atol=1e-5)
    assert state["blocks"][0]["keys"].shape[2] == SIZES.look_back - 1


def test_no_frame_sees_a_later_one(network: CausalGrid) -> None:
    spectra = torch.randn(1, 12, 33, dtype=torch.complex64, generator=torch.Generator().manual_seed(2))
    other = spectra.clone()
    other[:, 8:] = 3 + 1j
    with torch.no_grad():
        a, b = network.tracks(spectra)[0], network.tracks(other)[0]
    torch.testing.assert_close(a[:, :, :8], b[:, :, :8], rtol=0, atol=0)
    assert float((a[:, :, 8] - b[:, :, 8]).abs().max()) > 1e-3


@pytest.mark.parametrize("block", [1, 37, 500])
def test_it_goes_live(network: CausalGrid, block: int) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal(700).astype(np.float32)
    stream = LiveSeparation(network)
    parts = [stream.feed(wave[i : i + block]) for i in range(0, len(wave), block)]
    out = np.concatenate([*parts, stream.flush()])[stream.latency_samples :]
    with torch.no_grad():
        wanted = network(torch.from_numpy(wave)[None])[0].T.numpy()
    np.testing.assert_allclose(out, wanted, atol=1e-5)


def test_it_is_trained_and_found_again_by_its_card(tmp_path: Path) -> None:
    sizes = {"n_fft": 64, "n_layers": 1, "lstm_hidden_units": 4, "attn_n_head": 2, "emb_dim": 4}
    words = [f"grid.{key}={value}" for key, value in sizes.items()]
    words += ["network=grid", "grid.attn_approx_qk_dim=33", "steps=1", "batch=2", "mix.seconds=0.6"]
    sets = [part for word in [*words, "loop.epochs=1"] for part in ("--set", word)]
    result = CliRunner().invoke(app, ["train", "separate", "-o", str(tmp_path / "run"), "--quiet", *sets])
    assert result.exit_code == 0, result.output
    model = load_model(tmp_path / "run", "separate")
    assert isinstance(model.network, CausalGrid)
    assert model.network.config.n_fft == 64
    assert sizes_of(model)["network"] == "grid"
    tracks = separate(np.random.default_rng(0).standard_normal(4000).astype(np.float32), 16000, weights=model)
    assert len(tracks) == 2


def test_level_is_left_out_and_sizes_are_checked(network: CausalGrid) -> None:
    wave = torch.randn(1, 600, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(network(0.01 * wave), 0.01 * network(wave), rtol=1e-3, atol=1e-6)
    with pytest.raises(ConfigError, match="multiple"):
        CausalGridConfig(emb_dim=6, attn_n_head=4)
