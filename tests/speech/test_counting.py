"""Three talkers are reported: with tones for talkers and a separator that splits between the outer ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from core.weights import Card
from speech.counting import crowded, held_together
from speech.model import Model, load_model
from speech.models.separate import SeparateConfig, SeparateNet
from speech.predict import separate_file
from speech.separation import LOOK_EVERY, SeparateStream, sounds

RATE = 16000


class Splitter(SeparateNet):
    """Bins up to the middle of the lowest and the highest tone, and those above."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.config = SeparateConfig(bands=8, channels=8)
        self.hop = 256
        self.none = nn.Parameter(torch.zeros(1))

    def forward(self, wave: Tensor) -> Tensor:
        spectra = torch.fft.rfft(wave)
        power = spectra.abs()
        tones = power > 0.2 * power.amax(-1, keepdim=True)
        place = torch.arange(power.shape[-1])
        low = torch.where(tones, place, power.shape[-1]).amin(-1, keepdim=True)
        high = torch.where(tones, place, 0).amax(-1, keepdim=True)
        below = place <= (low + high) / 2
        parts = [torch.fft.irfft(spectra * mask, n=wave.shape[-1]) for mask in (below, ~below)]
        return torch.stack(parts, 1)


def tones(*frequencies: float, seconds: float = 2.0) -> Tensor:
    time = torch.arange(int(seconds * RATE)) / RATE
    return sum(0.1 * torch.sin(2 * torch.pi * f * time) for f in frequencies)  # pyright: ignore


@pytest.mark.parametrize(("frequencies", "more"), [((300, 900), False), ((300, 500, 900), True)])
def test_a_track_that_holds_two_comes_apart_again(frequencies: tuple[float, ...], more: bool) -> None:
    network = Splitter()
    tracks = network(tones(*frequencies)[None])[0]
    assert crowded(network, tracks) is more
    assert not sounds(torch.full((4000,), 0.5))
    assert float(held_together(network, torch.zeros(2, 4000)).max()) == -120.0


@pytest.mark.parametrize(("frequencies", "talkers"), [((300, 900), 2), ((300, 500, 900), 3)])
def test_a_file_of_three_is_reported(tmp_path: Path, frequencies: tuple[float, ...], talkers: int) -> None:
    soundfile.write(tmp_path / "m.wav", tones(*frequencies, seconds=8.0).numpy(), RATE, subtype="FLOAT")
    model = Model(Splitter().eval(), Card("separate", "none", "none", "none"), "splitter")
    found = separate_file(tmp_path / "m.wav", [tmp_path / "1.wav", tmp_path / "2.wav"], model, passes=1)
    assert found.talkers == talkers
    assert any("3 or more talkers are heard" in remark for remark in found.remarks) is (talkers == 3)


def test_a_window_in_four_is_looked_at_and_a_stream_goes_on_with_its_counts(weights: dict[str, Any]) -> None:
    network = load_model(weights["separate"], "separate").network
    wave = (0.1 * np.random.default_rng(0).standard_normal(RATE * 8)).astype(np.float32)
    stream = SeparateStream(network, 2, window_s=1.6, count=True, gate_db=None)
    stream.feed(wave)
    assert stream.windows == 6
    assert stream.looked == 1 + (stream.windows - 1) // LOOK_EVERY
    other = SeparateStream(network, 2, window_s=1.6, count=True, gate_db=None)
    other.load_state(stream.state())
    assert (other.windows, other.looked, other.crowded) == (stream.windows, stream.looked, stream.crowded)
