"""Training and evaluation, and the files they agree with, on generated voices and tiny networks."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from speech import metrics
from speech.cli import app
from speech.dynamic import MixConfig, Mixer
from speech.evaluate import evaluate, summary
from speech.mixing import MixLaw, mixtures, write_set
from speech.model import load_model
from speech.models.enhance import EnhanceConfig
from speech.models.voice import VoiceConfig, VoiceNet
from speech.predict import enhance_file
from speech.synth import generated_corpus

SIZES = {"channels": 8, "blocks": 1, "band_hidden": 6, "time_hidden": 8, "shared": 3, "whole_hidden": 16}
SMALL = {
    "enhance": "channels=8 blocks=1 band_hidden=6 time_hidden=8 shared=3 whole_hidden=16",
    "separate": "bands=8 channels=8 shared=3 layers=1 blocks=1 hidden=8 whole_hidden=8 decoder=8",
}
CORPUS = generated_corpus(talkers=4, seconds=4.0)


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One short run of each task, made by the command."""
    folder = tmp_path_factory.mktemp("runs")
    for task, sizes in SMALL.items():
        sets = [f"model.{word}" for word in sizes.split()]
        sets += ["steps=2", "batch=2", "mix.seconds=0.6", "loop.epochs=2"]
        words = [part for word in sets for part in ("--set", word)]
        result = run("train", task, "--out", folder / task, "--quiet", *words)
        assert result.exit_code == 0, result.output
    return {task: folder / task for task in SMALL}


@pytest.mark.parametrize("task", SMALL)
def test_a_run_leaves_weights_a_card_and_a_log(task: str, runs: dict[str, Path]) -> None:
    model = load_model(runs[task], task)
    assert model.card.task == task
    assert "talkers" in model.card.data
    assert all(math.isfinite(value) for value in model.card.score.values())
    rows = (runs[task] / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3


def test_enhancement_is_scored_as_its_files_are(runs: dict[str, Path], tmp_path: Path) -> None:
    law = MixLaw("voicebank-demand", count=2, seconds=(1.0, 1.2))
    index = write_set(mixtures(law, [CORPUS]), law, tmp_path / "set")
    report = evaluate("enhance", index, runs["enhance"])
    assert report["n"] == 2
    assert set(report["baselines"]) == {"unprocessed", "wiener", "wiener_092"}
    assert {"si_sdr", "pesq_wb", "stoi"} <= set(report["model"])
    item = report["items"][0]
    target = tmp_path / "out.flac"
    enhance_file(tmp_path / "set" / item["noisy"], target, load_model(runs["enhance"]))
    clean = soundfile.read(tmp_path / "set" / item["clean"])[0]
    assert metrics.si_sdr(soundfile.read(target)[0], clean) == pytest.approx(item["si_sdr"], abs=0.05)


def test_intervals_are_drawn_by_the_seed() -> None:
    items = [{"scores": {"model": {"si_sdr": float(value)}}} for value in np.random.default_rng(0).random(20)]
    first, again, other = (summary(items, ("si_sdr",), seed)["model"] for seed in (0, 0, 1))
    assert first == again
    assert first["si_sdr"] == other["si_sdr"]
    assert first["si_sdr_low"] != other["si_sdr_low"]


def test_separation_reports_and_failures_stay_items(runs: dict[str, Path], tmp_path: Path) -> None:
    law = MixLaw("wsj0-2mix", count=2, seconds=(1.0, 1.2))
    index = write_set(mixtures(law, [CORPUS]), law, tmp_path / "set")
    (tmp_path / "set" / "1_s2.flac").write_bytes(b"nonsense")
    result = run(
        "evaluate", "separate", index, "--weights", runs["separate"], "--json", tmp_path / "r.json", "--quiet"
    )
    assert result.exit_code == 2
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["n"], report["scored"]) == (2, 1)
    assert set(report["baselines"]) == {"unprocessed", "ideal_mask"}
    assert report["baselines"]["unprocessed"]["si_sdri"] == pytest.approx(0.0, abs=1e-6)
    assert report["baselines"]["ideal_mask"]["si_sdri"] > 5
    assert "1_s2.flac" in report["items"][1]["error"]


def test_a_voice_makes_a_network_of_its_own_with_the_same_numbers() -> None:
    torch.manual_seed(0)
    network = VoiceNet(EnhanceConfig(**SIZES), VoiceConfig(inputs=8, hidden=6, size=5))
    for turn in network.turns.values():
        torch.nn.init.normal_(turn.weight, std=0.2)  # pyright: ignore
    waves, clips = torch.randn(2, 4000), torch.randn(2, 9000)
    with torch.no_grad():
        both = network(waves, clips)
        torch.testing.assert_close(network.personal(clips[1])(waves)[1], both[1], rtol=1e-4, atol=1e-5)
        assert float((network.base(waves) - both).abs().max()) > 1e-3
        louder = network.personal(10 * clips[1])(waves)[1]
        torch.testing.assert_close(louder, both[1], rtol=1e-3, atol=1e-4)


def test_a_wanted_voice_is_drawn_with_a_clip_of_the_same_talker() -> None:
    corpus = generated_corpus(talkers=5, seconds=9.0)
    for number, voice in enumerate(corpus.speech):  # a voice that can be told by its one tone
        time = np.arange(len(voice.samples)) / 16000
        tone = np.sin(2 * np.pi * 300 * (number + 1) * time)
        corpus.speech[number] = replace(voice, samples=(8000 * tone).astype(np.int16))
    config = MixConfig(seconds=1.0, speed=0.0, equalise=0.0, reverb=0.0, clean=0.25)
    noisy, clean, clip = Mixer([corpus], config, torch.device("cpu")).wanted(3, 16)
    assert (noisy.shape, clean.shape, clip.shape) == ((16, 16000), (16, 16000), (16, 32000))
    tones = [torch.fft.rfft(part).abs().argmax(-1) * 16000 / part.shape[-1] for part in (clean, clip)]
    torch.testing.assert_close(tones[0], tones[1], rtol=0, atol=2.0)
    assert int((noisy == clean).all(-1).sum()) == 4
    again = Mixer([corpus], config, torch.device("cpu")).wanted(3, 16)
    torch.testing.assert_close(again[0], noisy, rtol=0, atol=0)


def test_a_network_for_voices_begins_as_the_enhancement_network_it_is_made_of(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    sets = [f"model.{word}" for word in SMALL["enhance"].split()]
    sets += ["voice.inputs=8", "voice.hidden=6", "voice.size=4", "steps=1", "batch=2", "mix.seconds=0.6"]
    words = [part for word in [*sets, "loop.epochs=1", "loop.lr=1e-9"] for part in ("--set", word)]
    result = run("train", "voice", "--out", tmp_path / "v", "--start", runs["enhance"], "--quiet", *words)
    assert result.exit_code == 0, result.output
    base = load_model(runs["enhance"]).network.state_dict()
    found = load_model(tmp_path / "v", "voice").network
    assert isinstance(found, VoiceNet)
    for name, tensor in found.base.state_dict().items():
        torch.testing.assert_close(tensor, base[name], rtol=1e-4, atol=1e-4)
