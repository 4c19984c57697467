"""A stream gives what a whole file gives, for every block size, at every rate."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import DataError
from speech.layouts import load_published
from speech.metrics import si_sdr
from speech.models.enhance import EnhanceConfig, EnhanceNet
from speech.models.gtcrn import GTCRN
from speech.predict import open_stream
from speech.resample import Resampler
from speech.stream import EnhanceStream
from speech.synth import voice
from tests.golden import entries

SMALL = EnhanceConfig(channels=8, blocks=1, band_hidden=6, time_hidden=8, shared=3, whole_hidden=16)


@cache
def small() -> EnhanceNet:
    """A network with weights that move, so that a wrong state would show."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = EnhanceNet(SMALL).eval()
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return network


class Through(torch.nn.Module):
    """Changes nothing; streams like a network."""

    window, hop = 512, 256

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))

    def initial_state(self, x: torch.Tensor) -> tuple[()]:
        return ()

    def filter(self, spectra: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        return spectra * self.gain, state


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    wave = 0.1 * np.random.default_rng(seed).standard_normal((samples, channels)).astype(np.float32)
    return wave[:, 0] if channels == 1 else wave


def streamed(stream: EnhanceStream, wave: np.ndarray, sizes: list[int]) -> np.ndarray:
    """All of the wave in blocks of these sizes, again and again; without the delay."""
    out, start, turn = [], 0, 0
    while start < len(wave):
        block = wave[start : start + sizes[turn % len(sizes)]]
        found = stream.feed(block)
        assert len(found) == len(block)
        out.append(found)
        start, turn = start + len(block), turn + 1
    out.append(stream.flush())
    whole = np.concatenate(out)
    assert len(whole) == len(wave) + stream.latency_samples
    return whole[stream.latency_samples :]


@pytest.mark.parametrize("sizes", [[1], [160], [255, 1, 513], [256], [4000]], ids=str)
def test_blocks_of_any_size_equal_the_whole(sizes: list[int]) -> None:
    wave = noise(1200 if sizes == [1] else 9001)
    with torch.no_grad():
        whole = small()(torch.from_numpy(wave)[None])[0].numpy()
    np.testing.assert_allclose(streamed(EnhanceStream(small()), wave, sizes), whole, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 255, 256, 257, 512, 5120, 5121, 5375])
def test_reflected_ends_of_published_models_are_streamed_exactly(samples: int) -> None:
    entry = next(entry for entry in entries("speech") if entry.key.startswith("GTCRN"))
    network = GTCRN().eval()
    load_published(network, entry.weights())
    wave = noise(samples)
    found = streamed(EnhanceStream(network), wave, [160])
    assert len(found) == samples
    if samples > 256:
        with torch.no_grad():
            whole = network(torch.from_numpy(wave)[None])[0].numpy()
        np.testing.assert_allclose(found, whole, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("block", [80, 441, 5000])
def test_an_impulse_comes_out_at_the_latency_at_every_rate(rate: int, block: int) -> None:
    stream = EnhanceStream(Through(), rate)
    wave = np.zeros(rate // 2, np.float32)
    wave[1000] = 0.5
    out = np.concatenate([stream.feed(wave[i : i + block]) for i in range(0, len(wave), block)])
    assert int(np.abs(out).argmax()) == 1000 + stream.latency_samples
    out = np.concatenate([out, stream.flush()])[stream.latency_samples :]
    # what the change of rate takes away comes back: a network that does nothing is not heard
    np.testing.assert_allclose(out, wave, atol=2e-6)


def test_latency_is_within_what_is_promised() -> None:
    for rate, most in ((16000, 0.032), (48000, 0.036), (44100, 0.036)):
        assert EnhanceStream(Through(), rate).latency_samples / rate <= most


def test_resampling_keeps_a_tone_and_its_length() -> None:
    time = np.arange(48000) / 48000
    tone = np.sin(2 * np.pi * 1000 * time).astype(np.float32)[None]
    down = Resampler(48000, 16000)
    low = np.concatenate([down.feed(tone[:, :777]), down.feed(tone[:, 777:]), down.flush()], 1)
    assert low.shape == (1, 16000)
    wanted = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    np.testing.assert_allclose(low[0, 100:-100], wanted[100:-100], atol=2e-3)


def test_limits_and_mixes_are_exact() -> None:
    wave = noise(6000, 2)
    kept = streamed(EnhanceStream(small(), 48000, 2, limit_db=0.0), wave, [999])
    np.testing.assert_allclose(kept, wave, atol=1e-6)
    wet = streamed(EnhanceStream(small(), 16000, 2), wave, [999])
    half = streamed(EnhanceStream(small(), 16000, 2, mix=0.5), wave, [999])
    np.testing.assert_allclose(half, 0.5 * wave + 0.5 * wet, atol=1e-6)
    quiet = streamed(EnhanceStream(Through(0.0), 16000, 1, limit_db=12.0), wave[:, 0], [999])
    np.testing.assert_allclose(quiet, wave[:, 0] * 10 ** (-12 / 20), atol=1e-6)


def test_linked_channels_keep_the_image() -> None:
    wave = noise(6000)
    stereo = np.stack([wave, 0.25 * wave], 1)
    out = streamed(EnhanceStream(small(), 16000, 2, mode="link"), stereo, [700])
    np.testing.assert_allclose(out[:, 1], 0.25 * out[:, 0], atol=1e-6)
    mono = streamed(EnhanceStream(small(), 16000, 2, mode="mono"), stereo, [700])
    assert mono.shape == (6000,)


def test_a_state_goes_on_elsewhere() -> None:
    wave = noise(20000)
    whole = streamed(EnhanceStream(small(), 48000), wave, [480])
    first = EnhanceStream(small(), 48000)
    head = first.feed(wave[:7001])
    second = EnhanceStream(small(), 48000)
    second.load_state(first.state())
    out = np.concatenate([head, second.feed(wave[7001:]), second.flush()])[first.latency_samples :]
    np.testing.assert_allclose(out, whole, atol=1e-5)
    with pytest.raises(DataError, match="weights"):
        EnhanceStream(small(), 48000, name="other").load_state(first.state())


def test_memory_does_not_grow_and_bad_samples_are_counted() -> None:
    stream = EnhanceStream(small(), 48000)
    sizes = set()
    for block in range(30):
        stream.feed(noise(4800, seed=block))
        sizes.add(sum(a.nbytes for a in (stream.dry, stream.lost, stream.ready, stream.core.gains)) // 40000)
    assert len(sizes) == 1
    assert np.isfinite(stream.feed(np.array([np.nan, np.inf, 0.1], np.float32))).all()
    assert stream.bad_samples == 2


def test_level_does_not_matter() -> None:
    wave = noise(8000)
    loud = streamed(EnhanceStream(small()), wave, [1000])
    quiet = streamed(EnhanceStream(small()), wave * np.float32(10**-1.5), [1000])
    np.testing.assert_allclose(quiet * 10**1.5, loud, atol=1e-4)


@pytest.mark.slow
def test_ten_minutes_of_steady_noise_do_not_drift() -> None:
    """The same minute ten times over: the last one scores as the second does."""
    rng = np.random.default_rng(0)
    clean = np.concatenate([voice(10.0, rng, gender) for gender in "mfmfmf"])
    hiss = rng.standard_normal(len(clean)).astype(np.float32)
    minute = clean + hiss * float(np.sqrt(np.square(clean).mean())) * 10 ** (-10 / 20)
    stream = open_stream()
    sizes, scores = [], []
    late = stream.latency_samples
    kept = np.zeros(0, np.float32)
    for number in range(10):
        kept = np.concatenate([kept, stream.feed(minute.astype(np.float32))])
        if number in (2, 9):  # what came out by now ends `late` samples before the minute does
            out = kept[late + (number - 1) * len(minute) :][: len(minute)]
            scores.append(si_sdr(out, clean))
        sizes.append(stream.core.buffer.size + stream.ready.size + stream.dry.size)
    assert scores[1] == pytest.approx(scores[0], abs=0.3)
    assert max(sizes) == sizes[0]
