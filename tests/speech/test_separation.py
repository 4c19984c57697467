"""Recordings of any length through windows: no seam, no lost tail, no swapped voices."""

import numpy as np
import pytest
import torch

from core.errors import ConfigError
from speech.passes import checked_passes, several
from speech.separation import SeparateStream, consistent, speaking
from speech.synth import voice

WINDOW_S = 1.0
W = 16000


class Halves(torch.nn.Module):
    """Time-invariant: two thirds and one third of the mixture; the order changes at every call if asked."""

    def __init__(self, swap: bool = False) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor([2 / 3, 1 / 3]))
        self.swap, self.calls = swap, 0

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        out = wave[:, None] * self.gain[:, None]
        return out.flip(1) if self.swap and self.calls % 2 == 0 else out


def run(stream: SeparateStream, wave: np.ndarray, block: int = 3000) -> np.ndarray:
    parts = [stream.feed(wave[i : i + block]) for i in range(0, len(wave), block)]
    return np.concatenate([*parts, stream.flush()], 1)


LENGTHS = [
    1,
    100,
    W - 1,
    W,
    W + 1,
    W + W // 4,
    W + 3 * W // 4,
    W + 3 * W // 4 + 1,
    W + 3 * 3 * W // 4,
    5 * W + 7,
]


@pytest.mark.parametrize("samples", LENGTHS)
def test_a_model_that_does_not_change_with_time_leaves_no_seam(samples: int) -> None:
    wave = (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)
    stream = SeparateStream(Halves(), 2, gate_db=None, window_s=WINDOW_S)
    tracks = run(stream, wave)
    assert tracks.shape == (2, samples)
    # shares by power send the rest the same way, so the tracks keep their thirds
    np.testing.assert_allclose(tracks, wave * np.array([[2 / 3], [1 / 3]]), atol=1e-6)
    np.testing.assert_allclose(tracks.sum(0), wave, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_tracks_add_up_at_other_rates_and_keep_the_length(rate: int) -> None:
    wave = (0.1 * np.random.default_rng(0).standard_normal(rate * 2 + 77)).astype(np.float32)
    tracks = run(SeparateStream(Halves(), 2, rate, gate_db=None, window_s=WINDOW_S), wave)
    assert tracks.shape == (2, len(wave))
    np.testing.assert_allclose(tracks.sum(0), wave, atol=1e-5)


def test_outputs_that_change_places_are_put_back() -> None:
    rng = np.random.default_rng(1)
    wave = voice(6.0, rng)
    tracks = run(SeparateStream(Halves(swap=True), 2, gate_db=None, window_s=WINDOW_S), wave)
    level = np.sqrt(np.square(tracks).reshape(2, 6, W).mean(-1))
    np.testing.assert_allclose(level[0] / level[1], 2.0, rtol=1e-3)


class Known(torch.nn.Module):
    """Gives the two voices that it was told of, in an order that changes; silent where they are."""

    def __init__(self, voices: np.ndarray) -> None:
        super().__init__()
        self.voices = torch.from_numpy(voices.astype(np.float32))
        self.gain = torch.nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        loud = min(int(wave[0].abs().argmax()), wave.shape[1] - 8)
        found = (self.voices.sum(0).unfold(0, 8, 1) == wave[0, loud : loud + 8]).all(1).nonzero()
        start = int(found[0]) - loud
        self.calls += 1
        out = self.voices[None, :, start : start + wave.shape[1]]
        return out.flip(1) if self.calls % 3 == 0 else out


def test_voices_are_known_again_after_a_pause() -> None:
    rng = np.random.default_rng(5)
    first, second = voice(24.0, rng, "m"), voice(24.0, rng, "f")
    time = np.arange(len(first)) / W
    pause = (time % 8 > 4) & (time % 8 < 7)  # three seconds of silence, longer than an overlap
    voices = np.stack([first, second]) * ~pause
    window_s = 3.0
    stream = SeparateStream(Known(voices), 2, gate_db=None, consistent=False, window_s=window_s)
    tracks = run(stream, voices.sum(0).astype(np.float32))
    error = np.square(tracks - voices).reshape(2, 24, W).mean(-1)
    power = np.square(voices).reshape(2, 24, W).mean(-1) + 1e-9
    assert (error < 0.05 * power.max()).all(), "a voice has changed its track"


def test_no_window_is_spent_on_a_pause_and_the_next_one_begins_with_speech() -> None:
    rng = np.random.default_rng(6)
    talk = (0.1 * rng.standard_normal(2 * W + 500)).astype(np.float32)
    hush = (2e-5 * rng.uniform(-1, 1, 5 * W + 333)).astype(np.float32)
    wave = np.concatenate([hush, talk, hush, talk])

    heard: list[np.ndarray] = []

    class Listening(Halves):
        def forward(self, wave: torch.Tensor) -> torch.Tensor:
            heard.append(wave[0].numpy().copy())
            return super().forward(wave)

    tracks = run(SeparateStream(Listening(), 2, gate_db=None, window_s=WINDOW_S), wave)
    np.testing.assert_allclose(tracks.sum(0), wave, atol=1e-6)
    spoken = np.flatnonzero(np.abs(wave) > 1e-4)
    np.testing.assert_allclose(tracks[:, spoken], wave[spoken] * np.array([[2 / 3], [1 / 3]]), atol=1e-4)
    begins = [k for k, piece in enumerate(heard) if np.array_equal(piece, talk[:W])]
    assert len(begins) == 2
    assert len(heard) <= 8


def test_one_talker_leaves_the_other_track_silent() -> None:
    wave = voice(3.0, np.random.default_rng(2))

    class One(Halves):
        def forward(self, wave: torch.Tensor) -> torch.Tensor:
            return torch.stack([wave, 0.01 * wave], 1)

    stream = SeparateStream(One(), 2, window_s=WINDOW_S)
    tracks = run(stream, wave)
    assert np.abs(tracks[1]).max() == 0
    assert stream.silenced[1] > 2
    np.testing.assert_allclose(tracks[0], wave, atol=1e-6)


def test_what_is_left_over_goes_by_power() -> None:
    rng = np.random.default_rng(0)
    mixture = torch.from_numpy(rng.standard_normal(8000).astype(np.float32))
    tracks = consistent(torch.stack([0.5 * mixture, torch.zeros(8000)]), mixture)
    torch.testing.assert_close(tracks.sum(0), mixture)
    assert float(tracks[1].abs().max()) < 1e-3


def test_memory_is_flat() -> None:
    stream = SeparateStream(Halves(), 2, 48000, window_s=WINDOW_S)
    sizes = []
    for _ in range(40):
        stream.feed(0.1 * np.ones(24000, np.float32))
        sizes.append(stream.buffer.numel() + stream.mix_out.size)
    assert max(sizes[20:]) <= max(sizes[:20])


def test_who_speaks_when() -> None:
    rng = np.random.default_rng(3)
    tone = rng.standard_normal(16000).astype(np.float32) * 0.1
    tracks = np.zeros((2, 64000), np.float32)
    tracks[0, 16000:32000] = tone
    tracks[1, 40000:56000] = tone
    (first,), (second,) = speaking(tracks, 16000)
    assert first == pytest.approx((1.0, 2.0), abs=0.06)
    assert second == pytest.approx((2.5, 3.5), abs=0.06)


def test_answers_are_brought_into_one_order_before_their_mean() -> None:
    """A network that gives its tracks in another order at every pass, each with an error of its own."""
    rng = np.random.default_rng(4)
    voices = torch.from_numpy(np.stack([voice(1.0, rng, "m"), voice(1.0, rng, "f")])[None])

    class Wavering(torch.nn.Module):
        hop, calls = 512, 0

        def forward(self, wave: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            own = torch.nn.functional.pad(voices, (wave.shape[1] - voices.shape[2], 0))
            error = 0.05 * torch.randn(own.shape, generator=torch.Generator().manual_seed(self.calls))
            return (own + error).flip(1) if self.calls % 2 == 0 else own + error

    one, two = (several(Wavering(), voices.sum(1), passes) for passes in (1, 2))
    errors = [(found - voices).square().mean() for found in (one, two)]
    assert float(errors[1] / errors[0]) == pytest.approx(0.5, abs=0.05)
    assert several(Halves(), voices.sum(1), 4).shape == voices.shape
    wave = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    middle = slice(400, -400)  # changes of speed wrap around at the ends
    found = several(Halves(), wave, 2)[0, :, middle]
    torch.testing.assert_close(found, Halves()(wave)[0, :, middle].detach(), rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match="passes are"):
        checked_passes(5)
