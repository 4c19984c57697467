"""Verbs around weights and scores: models, export, fine-tune, index, score without a reference."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from core.errors import ConfigError
from core.weights import Card, save
from speech import unit_table
from speech.cli import app
from speech.data import read_corpus
from speech.evaluate import evaluate
from speech.export import export_onnx
from speech.features import analyse, synthesise
from speech.layouts import build
from speech.mixing import MixLaw, mixtures, write_set
from speech.model import Model, load_model
from speech.models.enhance import EnhanceConfig, EnhanceNet
from speech.models.separate import SeparateConfig, SeparateNet
from speech.no_reference import dnsmos, levels
from speech.public_sets import rows_of, speakers
from speech.synth import generated_corpus

SIZES = {
    "enhance": {
        "channels": 8,
        "blocks": 1,
        "band_hidden": 6,
        "time_hidden": 8,
        "shared": 3,
        "whole_hidden": 16,
    },
    "separate": {
        "bands": 8,
        "channels": 8,
        "shared": 3,
        "layers": 1,
        "whole_hidden": 8,
        "blocks": 1,
        "hidden": 8,
        "decoder": 8,
    },
}


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    live = {**SIZES["separate"], "causal": True}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = {
            "enhance": ("enhance", EnhanceNet(EnhanceConfig(**SIZES["enhance"])), SIZES["enhance"]),
            "separate": ("separate", SeparateNet(SeparateConfig(**SIZES["separate"])), SIZES["separate"]),
            "live": ("separate", SeparateNet(SeparateConfig(**live)), live),
        }
    for name, (task, network, sizes) in networks.items():
        save(folder / f"{name}.safetensors", network, Card(task, "lstm", "none", "none", {"model": sizes}))
    return {name: folder / f"{name}.safetensors" for name in networks}


def test_models_lists_what_is_bundled_for_speech() -> None:
    result = run("models", "--json", "-")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert {"speech-enhance", "speech-separate"} <= {row["name"] for row in rows}
    assert all(row["task"] in ("enhance", "separate", "voice") and row["trained_on"] for row in rows)


@pytest.mark.parametrize("name", ["enhance", "live"])
def test_an_exported_stream_gives_the_same_wave_with_numpy_alone(
    name: str, weights: dict[str, Path], tmp_path: Path
) -> None:
    """The client of the README, on frames of a wave."""
    import onnxruntime

    task = "enhance" if name == "enhance" else "separate"
    path = tmp_path / "step.onnx"
    result = run("export", "-o", path, "--stream", "--task", task, "--weights", weights[name])
    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession(str(path))
    about = session.get_modelmeta().custom_metadata_map
    window, hop = int(about["window"]), int(about["hop"])
    assert about["rate"] == "16000"
    assert int(about["latency_samples"]) == window - 1
    wave = 0.1 * np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    shape = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)
    padded = np.pad(wave, (window - hop, 2 * window))
    state = {
        entry.name: np.zeros(entry.shape, np.float32) for entry in session.get_inputs() if entry.name != "x"
    }
    frames = []
    for start in range(0, len(wave) + hop, hop):
        spectrum = np.fft.rfft(padded[start : start + window] * shape)
        x = np.concatenate([spectrum.real, spectrum.imag])[None].astype(np.float32)
        y, *after = session.run(None, {"x": x, **state})
        state = dict(zip(state, after, strict=True))
        frames.append(y[0])
    network: Any = load_model(weights[name], task).network
    with torch.no_grad():
        spectra = analyse(torch.from_numpy(wave)[None], window, hop)
        wanted = network.filter(spectra)[0] if name == "enhance" else network.tracks(spectra)[0][0]
        parts = torch.from_numpy(np.stack(frames, -2)).unflatten(-1, (2, -1))  # (S,) T, 2, F
        found = torch.complex(parts[..., 0, :], parts[..., 1, :])[..., : spectra.shape[1], :]
        found = found[None] if name == "enhance" else found
        a, b = (synthesise(part, window, hop, len(wave)) for part in (found, wanted))
    np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-4)


def test_a_whole_wave_network_is_exported_for_windows(weights: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "whole.onnx"
    words = ["--task", "separate", "--weights", weights["separate"], "--seconds", "0.5"]
    result = run("export", "-o", path, *words)
    assert result.exit_code == 0, result.output
    assert "largest difference" in result.output


def test_a_published_stream_is_exported_and_says_what_its_ends_are(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    assert export_onnx(load_model("gtcrn-dns3"), tmp_path / "g.onnx", stream=True) < 1e-5
    about = {prop.key: prop.value for prop in onnx.load(str(tmp_path / "g.onnx")).metadata_props}
    assert about["ends"] == "the first and last 256 samples mirrored beyond the ends of the wave"
    assert (about["weights"], about["window"]) == ("gtcrn-dns3", "512")


PUBLISHED = {
    "asteroid-conv-tasnet": (
        {"n_blocks": 1, "n_repeats": 1, "bn_chan": 4, "hid_chan": 8, "skip_chan": 4, "n_filters": 8},
        "2000 to 480000 samples",
    ),
    "mossformer2-ss": (
        {"in_channels": 8, "out_channels": 8, "num_blocks": 1},
        "8000 samples, longer ones in windows",
    ),
    "frcrn": ({"channels": 8}, "24 frames, longer ones in windows"),
}
"""Small sizes of layouts, and what lengths their graphs take."""


def published(layout: str, words: dict[str, Any]) -> Model:
    card = Card("separate", layout, "none", "none", {"layout": layout, "options": words})
    return Model(build(layout, words).eval(), card, layout)


@pytest.mark.slow
@pytest.mark.parametrize("layout", PUBLISHED)
def test_a_published_network_is_exported_with_the_lengths_that_it_takes(layout: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    words, lengths = PUBLISHED[layout]
    assert export_onnx(published(layout, words), tmp_path / "p.onnx", seconds=0.5) < 1e-4
    about = {prop.key: prop.value for prop in onnx.load(str(tmp_path / "p.onnx")).metadata_props}
    assert (about["length"], about["weights"]) == (lengths, layout)


def test_published_networks_without_a_graph_say_why(tmp_path: Path) -> None:
    words = {"n_fft": 16, "stride": 8, "n_layers": 1, "lstm_hidden_units": 4, "emb_dim": 8, "attn_n_head": 2}
    with pytest.raises(ConfigError, match="graphs have no complex numbers"):
        export_onnx(published("espnet-tf-gridnet-v2", words), tmp_path / "p.onnx")
    assert not (tmp_path / "p.onnx").exists()


def test_a_form_that_a_network_has_not_is_refused(weights: dict[str, Path], tmp_path: Path) -> None:
    words = ["export", "-o", tmp_path / "x.onnx"]
    result = run(*words, "--stream", "--task", "separate", "--weights", weights["separate"])
    assert "whole recording" in str(result.exception)
    assert "--stream" in str(run(*words, "--weights", weights["enhance"]).exception)
    assert not (tmp_path / "x.onnx").exists()


def test_fine_tuning_goes_on_with_the_sizes_of_the_weights(weights: dict[str, Path], tmp_path: Path) -> None:
    words = ["--set", "steps=1", "--set", "batch=2", "--set", "mix.seconds=0.6", "--set", "loop.epochs=1"]
    result = run("fine-tune", "enhance", weights["enhance"], "-o", tmp_path / "run", "--quiet", *words)
    assert result.exit_code == 0, result.output
    assert load_model(tmp_path / "run", "enhance").network.config.channels == 8  # pyright: ignore
    refused = run("fine-tune", "enhance", "gtcrn-dns3", "-o", tmp_path / "other", "--quiet")
    assert refused.exit_code != 0
    assert "published network" in str(refused.exception)


def sound(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(1600), 16000)


def test_folders_of_wsj_and_libri_mixtures_are_understood(tmp_path: Path) -> None:
    for kind in ("mix_clean", "mix_both", "s1", "s2"):
        sound(tmp_path / "test" / kind / "1272-128104-0000_2035-147961-0014.wav")
    layout, task, rows = rows_of(tmp_path, "test")
    assert task == "separate"
    assert "talkers" in layout
    assert rows[0]["mix"].startswith("test/mix_clean/")
    assert rows[0]["s2_speaker"] == "2035"
    assert rows_of(tmp_path, "test", noisy=True)[2][0]["mix"].startswith("test/mix_both/")
    assert speakers("011a0101_1.2345_401c0203_-1.2345") == ["011", "401"]
    result = run("index", tmp_path, "-o", tmp_path / "test.csv")
    assert result.exit_code == 0, result.output
    assert "s1_speaker" in (tmp_path / "test.csv").read_text()
    (tmp_path / "test" / "s2" / "1272-128104-0000_2035-147961-0014.wav").unlink()
    result = run("index", tmp_path, "-o", tmp_path / "again.csv")
    assert result.exit_code != 0
    assert "counterpart" in str(result.exception)


def test_folders_of_voicebank_and_dns_are_understood(tmp_path: Path) -> None:
    for number, name in enumerate(("p232_001.wav", "p257_002.wav")):
        sound(tmp_path / "vb" / "clean_testset_wav" / name, number)
        sound(tmp_path / "vb" / "noisy_testset_wav" / name, number)
        sound(tmp_path / "vb" / "clean_trainset_28spk_wav" / name, number)
        sound(tmp_path / "vb" / "noisy_trainset_28spk_wav" / name, number)
        sound(tmp_path / "dns" / "clean" / f"clean_fileid_{number}.wav", number)
        sound(tmp_path / "dns" / "noisy" / f"book_snr7_fileid_{number}.wav", number)
    layout, _, rows = rows_of(tmp_path / "vb", "test")
    assert layout == "VoiceBank+DEMAND"
    assert [row["speaker"] for row in rows] == ["p232", "p257"]
    assert sorted(voice.name for voice in read_corpus(tmp_path / "vb").speech) == ["p232", "p257"]
    layout, _, rows = rows_of(tmp_path / "dns", "test")
    assert layout == "DNS"
    assert rows[1]["clean"] == "clean/clean_fileid_1.wav"
    result = run("index", tmp_path / "vb" / "clean_testset_wav", "-o", tmp_path / "x.csv")
    assert result.exit_code != 0
    assert "no WSJ0-mix" in str(result.exception)


def test_what_has_no_speech_gets_no_dnsmos() -> None:
    pytest.importorskip("speechmos")
    for wave in (np.zeros(32000), np.full(8000, 0.1)):
        assert all(np.isnan(value) for value in dnsmos(wave, 16000).values())


@pytest.mark.slow
def test_a_file_is_scored_without_a_reference(tmp_path: Path) -> None:
    pytest.importorskip("speechmos")
    corpus = generated_corpus(talkers=2, seconds=3.0)
    soundfile.write(tmp_path / "loud.wav", 3.0 * corpus.speech[0].samples / 32768, 16000, subtype="FLOAT")
    result = run("score", tmp_path / "loud.wav", "--no-reference", "--json", "-")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert 1 <= figures["dnsmos_ovrl"] <= 5
    assert 1 <= figures["dnsmos_p808"] <= 5


def test_levels_are_those_of_a_sine() -> None:
    found = levels(0.5 * np.sin(np.arange(16000) * 0.1).astype(np.float32), 16000)
    assert found["rms_db"] == pytest.approx(-9.03, abs=0.05)
    assert found["peak_db"] == pytest.approx(-6.02, abs=0.05)
    assert run("score", "a.wav", "b.wav", "--no-reference").exit_code != 0


def test_clean_files_can_be_scored_in_the_same_run(weights: dict[str, Path], tmp_path: Path) -> None:
    law = MixLaw("voicebank-demand", count=2, seconds=(1.0, 1.2))
    index = write_set(mixtures(law, [generated_corpus(talkers=3, seconds=3.0)]), law, tmp_path / "set")
    report = evaluate("enhance", index, weights["enhance"], keep_clean=True)
    assert report["kept"]["n"] == 2
    assert np.isfinite(report["kept"]["si_sdr"])


def test_units_are_trained_alike_and_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_table, "CLIPS", 2)
    monkeypatch.setattr(unit_table, "TIMED_STEPS", 1)
    monkeypatch.setattr(unit_table, "CLIP_S", 1.0)
    monkeypatch.setattr(unit_table, "LIVE_S", 0.2)
    for voice in generated_corpus(talkers=20, seconds=1.2).speech:  # every tenth is for validation
        path = tmp_path / "data" / "clean" / voice.name / "a.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, voice.samples, 16000)
    words = [f"model.{key}={value}" for key, value in SIZES["enhance"].items()]
    words += ["batch=2", "mix.seconds=0.6"]
    sets = ["--quiet", "--json", "-", *(part for word in words for part in ("--set", word))]
    wanted = [
        "units",
        tmp_path / "data",
        "--steps",
        1,
        "--units",
        "min_gru,nonsense",
        "--out",
        tmp_path / "units",
        *sets,
    ]
    result = run(*wanted, "--minutes", 0)
    assert result.exit_code == 0, result.output
    before, first, _ = json.loads(result.stdout)["rows"]
    assert (before["unit"], first["error"]) == ("input", unit_table.OVER)
    result = run(*wanted)
    assert result.exit_code == 0, result.output
    again, first, second = json.loads(result.stdout)["rows"]
    assert again == before
    assert first["unit"] == "min_gru"  # no form of it is compiled for streams
    assert np.isfinite(first["si_sdr"])
    assert first["step_s"] > 0
    assert first["real_time"] > 0
    assert "nonsense" in second["error"]
    assert "already holds a run" in str(run(*wanted).exception)
    rows = json.loads(run(*wanted, "--resume").stdout)["rows"]
    assert rows[1]["si_sdr"] == first["si_sdr"]
