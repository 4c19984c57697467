"""Live: blocks that come too late pass dry, talkers come apart with a constant delay."""

import io
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from speech.audio import RawFormat
from speech.live import LiveReport, Punctual, pipe
from speech.live_separation import LiveSeparation
from speech.model import load_model
from speech.models.separate import SeparateConfig, SeparateNet
from speech.predict import open_stream
from speech.stream import EnhanceStream

SIZES: dict[str, Any] = {
    "window": 256,
    "bands": 8,
    "channels": 8,
    "shared": 3,
    "layers": 1,
    "whole_hidden": 8,
    "blocks": 1,
    "hidden": 8,
    "decoder": 8,
}


@pytest.fixture(scope="module")
def network() -> SeparateNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SeparateNet(SeparateConfig(**SIZES, causal=True)).eval()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def whole(stream: LiveSeparation, wave: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Everything through blocks of these sizes in turn, the delay taken off."""
    parts, place = [], 0
    for size in itertools.cycle(sizes):
        if place >= len(wave):
            break
        parts.append(stream.feed(wave[place : place + size]))
        assert len(parts[-1]) == len(wave[place : place + size])
        place += size
    return np.concatenate([*parts, stream.flush()])[stream.latency_samples :]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(1, 700), min_size=1, max_size=4), samples=st.integers(1, 1500))
def test_talkers_are_the_same_for_blocks_of_any_size(
    network: SeparateNet, sizes: list[int], samples: int
) -> None:
    wave = noise(samples)
    tracks = whole(LiveSeparation(network), wave, sizes)
    with torch.no_grad():
        wanted = network(torch.from_numpy(wave)[None])[0].T.numpy()
    assert tracks.shape == (samples, 2)
    np.testing.assert_allclose(tracks, wanted, atol=1e-5)
    np.testing.assert_allclose(tracks.sum(1), wave, atol=1e-5)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_tracks_of_any_rate_add_up_to_the_mixture_in_time(network: SeparateNet, rate: int) -> None:
    """What is above the network's band comes out at the same moment as what is below."""
    wave = noise(rate // 2)
    tracks = whole(LiveSeparation(network, rate), wave, [rate // 100])
    assert tracks.shape == (len(wave), 2)
    error = tracks.sum(1) - wave
    assert np.square(error).mean() < 1e-3 * np.square(wave).mean()


def test_a_network_that_hears_the_whole_wave_cannot_go_live(network: SeparateNet) -> None:
    with pytest.raises(ConfigError, match="whole recording"):
        LiveSeparation(SeparateNet(SeparateConfig(**SIZES)))
    stream = LiveSeparation(network, channels=2)
    with pytest.raises(DataError, match=r"takes \(n, 2\)"):
        stream.feed(noise(10))
    assert stream.feed(np.array([[np.nan, 0.5]])).shape == (1, 2)
    assert stream.bad_samples == 1
    stream.flush()
    with pytest.raises(DataError, match="ended"):
        stream.feed(np.zeros((1, 2)))


class Clock:
    """Seconds that pass only inside of a block: as many as it is told."""

    def __init__(self, costs: list[float]) -> None:
        begins = itertools.accumulate([0.0, *costs])
        spans = zip(begins, costs, strict=False)
        self.times = [time for begin, cost in spans for time in (begin, begin + cost)]

    def __call__(self) -> float:
        return self.times.pop(0)


def test_blocks_pass_dry_while_too_much_computing_lies_behind() -> None:
    """Blocks of 10 ms: one of 150 ms puts 140 behind, more than 100; each that costs nothing takes 10 off."""
    stream = open_stream()
    report = LiveReport()
    costs = [0.001, 0.15, *[0.0] * 8]
    advance = Punctual(stream, report, clock=Clock(costs))
    flags: list[bool] = []
    kept = stream.feed
    stream.feed = lambda block, dry=False: (flags.append(dry), kept(block, dry=dry))[1]  # pyright: ignore
    for _ in costs:
        assert len(advance(noise(160))) == 160
    assert flags == [False, False, True, True, True, True, False, False, False, False]
    assert (report.late_blocks, report.dry_blocks) == (1, 4)
    assert report.slowest_ms == pytest.approx(150)


def test_a_dry_block_is_the_input_at_the_usual_delay() -> None:
    stream = open_stream()
    wave = noise(4800)
    parts = [stream.feed(wave[i : i + 160], dry=True) for i in range(0, len(wave), 160)]
    out = np.concatenate([*parts, stream.flush()])[stream.latency_samples :]
    # the last frames belong to `flush`, which goes through the network
    np.testing.assert_allclose(out[: 4800 - 512], wave[: 4800 - 512], atol=1e-6)


@pytest.mark.parametrize("block_ms", [0.0, -5.0, float("nan"), float("inf")])
def test_a_block_has_a_length(block_ms: float) -> None:
    with pytest.raises(ConfigError, match="a block lasts more than 0"):
        pipe(open_stream(), RawFormat(), io.BytesIO(), io.BytesIO(), block_ms)


def test_both_talkers_leave_a_pipe_as_two_channels(network: SeparateNet) -> None:
    stream, raw = LiveSeparation(network), RawFormat(16000, 1, "f32")
    wave, sink = noise(3000), io.BytesIO()
    report = pipe(stream, raw, io.BytesIO(wave.tobytes()), sink, patient=True)
    out = np.frombuffer(sink.getvalue(), np.float32).reshape(-1, 2)
    assert len(out) == 3000 + stream.latency_samples
    assert report.dry_blocks == 0
    np.testing.assert_allclose(out[stream.latency_samples :].sum(1), wave, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 900), min_size=1, max_size=5),
    samples=st.integers(1, 2500),
    rate=st.sampled_from([8000, 16000, 48000]),
)
def test_enhanced_samples_do_not_depend_on_the_blocks(sizes: list[int], samples: int, rate: int) -> None:
    model = load_model()
    wave = noise(samples, seed=1)

    def through(blocks: list[int]) -> np.ndarray:
        stream = EnhanceStream(model.network, rate)
        parts, place = [], 0
        for size in itertools.cycle(blocks):
            if place >= samples:
                return np.concatenate([*parts, stream.flush()])
            parts.append(stream.feed(wave[place : place + size]))
            place += size
        raise AssertionError

    np.testing.assert_allclose(through(sizes), through([samples]), atol=1e-5)
