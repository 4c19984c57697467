"""Mixtures made of spectra: who speaks when, whom they are of; and a network that grows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from core.errors import ConfigError
from core.weights import find, load
from speech.cli import app
from speech.config import SeparateRun
from speech.dynamic import MixConfig, Mixer, fast_length
from speech.model import load_model
from speech.models.separate import SeparateConfig, SeparateNet
from speech.spectral_mixing import SpectralMixer
from speech.synth import generated_corpus
from speech.train import Learning, grown

CPU = torch.device("cpu")
CORPUS = generated_corpus(talkers=6, seconds=4.0)


def mixer(**words: Any) -> SpectralMixer:
    return SpectralMixer([CORPUS], MixConfig(seconds=1.0, speed=0.0, **words), 512, CPU)


def test_talkers_that_take_turns_are_alone_together_and_silent() -> None:
    mixture, talkers = mixer(turns=1.0, alone=0.0).separation(3, 64)
    torch.testing.assert_close(mixture, talkers.sum(1))
    active = talkers.square().sum((3, 4)) > 0  # (B, 2, T)
    assert bool((active.float().mean(2) > 0.1).all())  # both are heard
    count = active.sum(1)
    shares = [float((count == k).float().mean()) for k in range(3)]
    assert shares[1] > 0.4
    assert shares[2] > 0.15
    assert shares[0] > 0.02
    assert int((count.amin(1) < 2).sum()) > 40  # most have a stretch that is not of both


def test_without_turns_both_talk_throughout_and_the_gap_is_kept() -> None:
    _, talkers = mixer(alone=0.0, gap_db=4.0, equalise=0.0).separation(3, 32)
    power = 10 * talkers.square().mean((2, 3, 4)).log10()
    assert float((power[:, 0] - power[:, 1]).abs().max()) <= 4.01


def test_women_are_drawn_as_often_as_asked() -> None:
    found = mixer(women=50.0, same_sex=1.0)
    drawn = torch.Generator().manual_seed(0)
    rows = torch.multinomial(found.first_chances, 400, replacement=True, generator=drawn)
    assert int(found.women[rows].sum()) > 360
    with pytest.raises(ConfigError, match=r"mix\.women is above 0"):
        MixConfig(women=0.0)
    with pytest.raises(ConfigError, match=r"mix\.turns is a share"):
        MixConfig(turns=1.5)


def test_waves_are_read_at_few_speeds_of_fast_lengths() -> None:
    found = Mixer([CORPUS], MixConfig(seconds=1.013, speed=0.1), CPU)
    lengths = {found.length(seed) for seed in range(400)}
    assert len(lengths) <= 13
    assert found.samples in lengths
    assert 0.9 * found.samples - 1 <= min(lengths)
    assert max(lengths) <= 1.13 * found.samples
    assert all(length % 2 == 0 for length in lengths - {found.samples})
    assert Mixer([CORPUS], MixConfig(seconds=1.013, speed=0.0), CPU).length(5) == found.samples
    assert [fast_length(n) for n in (9599, 9600, 16207)] == [9600, 9600, 16384]


def test_a_step_is_recorded_anew_when_weights_were_moved(
    weights: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuDNN lays weights into one piece at the first validation: a record of before reads the old place."""
    records: list[int] = []

    def record(module: Any, example: Any) -> Any:
        records.append(len(example))
        return module

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    learning = Learning("separate", SpectralMixer([CORPUS], MixConfig(seconds=1.0, speed=0.0), 1024, CPU), 2)
    learning.replay = True
    network = load_model(weights["separate"], "separate").network.train()
    first = learning(network, 5)["loss"]
    again = learning(network, 5)["loss"]
    assert records == [2]
    torch.testing.assert_close(first, again)
    for parameter in network.parameters():
        parameter.data = parameter.data.clone()
    torch.testing.assert_close(learning(network, 5)["loss"], first)
    assert records == [2, 2]


def test_a_grown_network_begins_with_the_numbers_of_the_smaller_one(
    weights: dict[str, str], tmp_path: Path
) -> None:
    sizes = {"bands": 8, "channels": 8, "shared": 3, "layers": 1, "whole_hidden": 8, "hidden": 8}
    small = SeparateNet(SeparateConfig(**sizes, blocks=1))  # pyright: ignore[reportArgumentType]
    small.load_state_dict(load(find(weights["separate"]))[0])
    large = SeparateNet(SeparateConfig(**sizes, blocks=3))  # pyright: ignore[reportArgumentType]
    assert grown(large, weights["separate"]) is None
    assert grown(small, weights["separate"]) == weights["separate"]
    wave = torch.randn(1, 6000)
    with torch.no_grad():
        torch.testing.assert_close(large(wave), small(wave))
    sets = [f"model.{name}={value}" for name, value in {**sizes, "blocks": 2}.items()]
    sets += ["steps=1", "batch=2", "mix.seconds=0.6", "loop.epochs=1", "mix.turns=0.5"]
    words = [part for word in sets for part in ("--set", word)]
    start = ["--start", weights["separate"], "--out", str(tmp_path / "run"), "--quiet"]
    result = CliRunner().invoke(app, ["train", "separate", *start, *words])
    assert result.exit_code == 0, result.output
    assert "over.1.out.weight" in load(tmp_path / "run" / "model.safetensors")[0]
    assert SeparateRun().mix.turns == 0
