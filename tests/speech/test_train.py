"""Training and evaluation, and the files they agree with, on generated voices and tiny networks."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import soundfile
from typer.testing import CliRunner

from speech import metrics
from speech.cli import app
from speech.evaluate import evaluate
from speech.mixing import MixLaw, mixtures, write_set
from speech.model import load_model
from speech.predict import enhance_file
from speech.synth import generated_corpus

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
