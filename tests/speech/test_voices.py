"""A clip of a voice makes a network: by command, in Python, live, and scored."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

import speech
from core.errors import ConfigError, DataError
from core.weights import Card, save
from speech import metrics
from speech.cli import app
from speech.evaluate import evaluate
from speech.model import load_model
from speech.models.enhance import EnhanceConfig
from speech.models.voice import VoiceConfig, VoiceNet
from speech.synth import generated_corpus
from speech.voices import for_voice, spoken

BASE = {"channels": 8, "blocks": 1, "band_hidden": 6, "time_hidden": 8, "shared": 3, "whole_hidden": 16}
VOICE = {"inputs": 8, "hidden": 6, "size": 4}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights of a small network that voices turn strongly, two clips, and a noisy file."""
    folder = tmp_path_factory.mktemp("voices")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = VoiceNet(EnhanceConfig(**BASE), VoiceConfig(**VOICE))
        for turn in network.turns.values():
            torch.nn.init.normal_(turn.weight, std=0.3)  # pyright: ignore
        torch.nn.init.normal_(network.encoder.tell.weight, std=2.0)
    card = Card("voice", "lstm", "none", "none", {"model": BASE, "voice": VOICE})
    save(folder / "w.safetensors", network, card)
    found = {"weights": folder / "w.safetensors"}
    voices = generated_corpus(talkers=2, seconds=6.0).speech
    for name, voice in zip(("anna", "ben"), voices, strict=True):
        found[name] = folder / f"{name}.wav"
        soundfile.write(found[name], voice.samples[:64000], 16000)
    rng = np.random.default_rng(0)
    noisy = voices[0].samples[:24000] / 32768 + 0.05 * rng.standard_normal(24000)
    found["noisy"] = folder / "noisy.wav"
    soundfile.write(found["noisy"], noisy, 16000)
    return found


def test_the_command_python_and_a_stream_give_the_same(files: dict[str, Path], tmp_path: Path) -> None:
    weights, anna = files["weights"], files["anna"]
    words = ["enhance", files["noisy"], "-o", tmp_path / "o.wav", "--weights", weights, "--voice", anna]
    result = CliRunner().invoke(app, [str(word) for word in [*words, "--quiet"]])
    assert result.exit_code == 0, result.output
    by_command = soundfile.read(tmp_path / "o.wav")[0]
    wave = soundfile.read(files["noisy"], dtype="float32")[0]
    by_python = speech.enhance(wave, 16000, weights=weights, voice=str(anna))
    np.testing.assert_allclose(by_command, by_python, atol=1e-4)
    stream: Any = speech.open_stream(weights, 16000, voice=anna)
    parts = [stream.feed(wave[i : i + 160]) for i in range(0, len(wave), 160)]
    streamed = np.concatenate([*parts, stream.flush()])[stream.latency_samples :]
    np.testing.assert_allclose(streamed, by_python, atol=1e-5)
    other = speech.enhance(wave, 16000, weights=weights, voice=files["ben"].read_bytes())
    assert float(np.abs(other - by_python).max()) > 1e-3


def test_a_state_of_one_voice_is_not_taken_for_another(files: dict[str, Path]) -> None:
    weights = load_model(files["weights"], "voice")
    first, second = (speech.open_stream(for_voice(files[n], weights=weights)) for n in ("anna", "ben"))
    with pytest.raises(DataError, match="this state has weights"):
        second.load_state(first.state())


def test_a_voice_must_be_heard_and_weights_must_take_one(
    files: dict[str, Path], weights: dict[str, str]
) -> None:
    with pytest.raises(DataError, match=r"holds 0.0 s of speech; a voice is known from 2 s on"):
        for_voice(np.zeros(80000), 16000, weights=files["weights"])
    for samples in (1, 800, 16000):
        with pytest.raises(DataError, match="of speech"):
            for_voice(soundfile.read(files["anna"])[0][:samples], 16000, weights=files["weights"])
    takes = load_model(weights["enhance"], "enhance")
    with pytest.raises(ConfigError, match="takes no voice"):
        for_voice(files["anna"], weights=takes)


def test_pauses_say_nothing_of_a_voice() -> None:
    time = np.arange(32000) / 16000
    tone = 0.1 * np.sin(2 * np.pi * 200 * time)
    paused = np.concatenate([tone[:16000], np.zeros(48000), tone[16000:]])
    assert 32000 <= len(spoken(paused)) < 40000
    assert len(spoken(tone)) == 32000


def test_an_index_with_voices_is_scored(files: dict[str, Path], tmp_path: Path) -> None:
    clean = soundfile.read(files["anna"])[0][:24000]
    soundfile.write(tmp_path / "clean.wav", clean, 16000)
    row = {"noisy": files["noisy"], "clean": "clean.wav", "voice": files["anna"]}
    with (tmp_path / "index.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(row))
        table.writeheader()
        table.writerow(row)
    report = evaluate("enhance", tmp_path / "index.csv", files["weights"], voices=True, keep_clean=True)
    noisy = soundfile.read(files["noisy"], dtype="float32")[0]
    ours = speech.enhance(noisy, 16000, weights=files["weights"], voice=files["anna"])
    assert report["items"][0]["si_sdr"] == pytest.approx(metrics.si_sdr(ours, clean), abs=1e-3)
    assert report["kept"]["n"] == 1
    with pytest.raises(DataError, match="no column 'room'"):
        evaluate("enhance", tmp_path / "index.csv", files["weights"], group="room")
    with pytest.raises(ConfigError, match="separation hears all talkers"):
        evaluate("separate", tmp_path / "index.csv", voices=True)
