"""What the machine refuses and what a page may cost: a full disk, specks, gaps, stages in bfloat16."""

import builtins
import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from core.config import read_toml, replace
from core.errors import ConfigError, WorkError
from core.export import export_step
from core.streaming import Streamer
from tests.vision.ocr.test_commands import run
from tests.vision.ocr.test_pen import pen
from vision.ocr.config import ModelConfig, defaults
from vision.ocr.decoding import Decoding
from vision.ocr.gaps import gaps
from vision.ocr.metrics import matched
from vision.ocr.models.digits import DigitNetwork
from vision.ocr.models.lines import LineNetwork
from vision.ocr.models.marks import Marks
from vision.ocr.page import find_page
from vision.ocr.precision import timed_stages
from vision.ocr.reader import load_reader
from vision.ocr.segmentation.baselines import lines_from_map
from vision.ocr.segmentation.finder import line_finder
from vision.ocr.segmentation.training import SegmentConfig, drawn, loss_of, train_segmenter
from vision.ocr.synth.writing import letter


@pytest.mark.parametrize("form", ["text", "alto", "jsonl"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    form: str,
    untrained: dict[str, Path],
    scribble: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), scribble)
    out = tmp_path / "out"
    out.mkdir()
    usual = builtins.open

    def full(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if str(path).startswith(str(out)) and set(mode) & set("wax+"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return usual(path, mode, *rest, **more)

    monkeypatch.setattr(builtins, "open", full)
    monkeypatch.setattr("os.fsync", lambda number: full(out, "w"))
    words = ["read", tmp_path / "a.png", "--weights", untrained["lines"], "--format", form]
    code, _, said = run(*words, "-o", out / "a.txt")
    monkeypatch.undo()
    assert code != 0
    assert "No space left" in said
    assert "Traceback" not in said
    assert [path.name for path in out.iterdir() if path.stat().st_size] == []


SPECKS = """
import resource, sys
import numpy as np
from vision.ocr.page import find_page
rng = np.random.default_rng(0)
grey = np.full((3000, 2400), 235, np.uint8)
for y, x in zip(rng.integers(2, 2995, 100_000), rng.integers(2, 2395, 100_000), strict=True):
    grey[y : y + 3, x : x + 3] = 30
page = find_page(grey)
print(len(page.lines), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_a_hundred_thousand_specks_stay_below_a_gigabyte_and_a_half() -> None:
    done = subprocess.run([sys.executable, "-c", SPECKS], capture_output=True, text=True, check=True)
    found, kilobytes = (int(value) for value in done.stdout.split())
    assert found <= 1000
    assert kilobytes < 1.5 * 2**20


def test_ink_that_no_character_covers_is_a_gap() -> None:
    ink = np.zeros((20, 200), np.uint8)
    ink[5:15, 10:60] = 255  # read
    ink[5:15, 100:140] = 255  # not read
    spans, covered = gaps(ink, [15, 25, 35, 45, 55], [10, 20, 30, 40, 50, 60])
    assert spans == ((100.0, 140.0),)
    assert covered == pytest.approx(50 / 90)
    assert gaps(ink[:, :70], [15, 25, 35, 45, 55], [10, 20, 30, 40, 50, 60]) == ((), 1.0)
    ink[5:7, 100:140] = 0
    ink[7:15, 103:140] = 0  # three columns are narrower than half a character
    assert gaps(ink, [15, 25, 35, 45, 55], [10, 20, 30, 40, 50, 60])[0] == ()


@pytest.mark.parametrize("alternatives", [0, 4])
def test_text_characters_and_boxes_have_one_count_whatever_the_spaces(
    alternatives: int, untrained: dict[str, Path]
) -> None:
    reader = load_reader(untrained["lines"], "lines")
    rng = np.random.default_rng(1)
    said = [reader.codec.labels.get(c, 0) for c in " .a. . .b.c . ."]  # a dot is a blank
    logits = rng.normal(0, 0.3, (len(said), reader.codec.size))
    logits[np.arange(len(said)), said] += 9
    y = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    grey = np.full((reader.line.height, 4 * len(said)), 255, np.uint8)
    line = reader.spelled([y], grey, Decoding(alternatives=alternatives), None)
    assert "".join(char.text for char in line.chars) == line.text == " ".join(line.text.split())
    assert line.text == "a bc"
    assert len(line.chars) == 4
    assert all(0 <= c.x0_px <= c.x1_px <= grey.shape[1] for c in line.chars)
    assert all(text == " ".join(text.split()) for text, _ in line.alternatives)
    assert len({text for text, _ in line.alternatives}) == len(line.alternatives)
    if alternatives:
        assert line.alternatives[0][0] == line.text


def test_a_pen_is_exported_and_streamed_as_a_unit(tmp_path: Path) -> None:
    network, _ = pen()
    assert export_step(network, tmp_path / "pen.onnx") < 1e-5
    x = torch.randn(1, 9, network.input_size)
    with torch.no_grad():
        whole, _ = network(x)
    stream = Streamer(network)
    told = [torch.as_tensor(stream.step(x[:, t])) for t in range(x.shape[1])]
    torch.testing.assert_close(torch.stack(told, 1), whole, atol=1e-5, rtol=0)


def test_a_map_of_baselines_gives_the_lines_back() -> None:
    grey, _ = letter(2, 5)
    page = find_page(grey)
    marks = drawn(page, (round(800 * grey.shape[0] / grey.shape[1]), 800)).numpy()
    found = lines_from_map(marks, grey)
    pairs = matched([line.box for line in page.lines], [line.box for line in found])
    assert len(pairs) == len(page.lines) == len(found)


@pytest.mark.parametrize("size", [(64, 64), (65, 64), (66, 71), (67, 78), (62, 97)])
def test_the_truth_of_a_page_of_any_size_fits_its_map(size: tuple[int, int]) -> None:
    with torch.no_grad():
        logits = Marks()(torch.rand(1, 1, *size))
    marks = torch.zeros(1, 1, *size)
    marks[..., 20:28, 10:50] = 1
    sure = torch.nn.functional.max_pool2d(marks, 4, ceil_mode=True) * 40 - 20
    assert loss_of(logits, marks) > 0.5
    assert loss_of(sure[..., : logits.shape[2], : logits.shape[3]], marks) < 0.01


def test_a_segmenter_that_finds_nothing_fails_loudly_and_its_weights_are_there(tmp_path: Path) -> None:
    config = replace(SegmentConfig(steps=1, batch=1, generated=1), {"loop": {"epochs": 1}})
    with pytest.raises(WorkError, match="of the lines of three training pages"):
        train_segmenter(config, tmp_path / "run", quiet=True)
    page = line_finder(tmp_path / "run")(letter(0, 3)[0])
    assert len(page.lines) <= 1000


def test_a_segmenter_that_goes_on_keeps_the_plan_of_its_minutes(tmp_path: Path) -> None:
    config, run_folder = SegmentConfig(steps=1, batch=1, generated=1), tmp_path / "run"
    for resume in (False, True):
        with pytest.raises(WorkError, match="of the lines of three training pages"):
            train_segmenter(config, run_folder, minutes=0.001, resume=resume, quiet=True)
        assert read_toml(run_folder / "config.toml")["loop"]["epochs"] == 1
    with pytest.raises(ConfigError, match="already holds a run"):
        train_segmenter(config, run_folder, quiet=True)


def test_a_stage_that_bfloat16_slows_stays_exact() -> None:
    config = replace(defaults("lines"), {"model": {"hidden": 8, "channels": [4, 4, 4]}})
    network = LineNetwork(config.model, 5)
    seen: list[tuple[tuple[str, ...], torch.dtype]] = []

    class One:
        def epoch(self, *about: int) -> Any:
            return iter([torch.rand(1, 1, 32, 64)] * 3)

    def step(model: Any, ink: torch.Tensor) -> dict[str, torch.Tensor]:
        logits, _ = model(ink)
        seen.append((model.exact, model.sequence(torch.rand(1, 3, 4), None).dtype))
        return {"loss": logits.float().sum()}

    took = (5, 3, 2, 4)  # convolutions in bfloat16 and exact, sequence in both; two steps warm up
    times = iter([moment for last in took for moment in (0, 0, 0, last)])
    assert timed_stages(network, step, One(), lambda: next(times)) == ("convolutions",)
    assert network.exact == ()
    assert {tried for tried, _ in seen} == {(), ("convolutions",), ("convolutions", "sequence")}


@pytest.mark.parametrize("task", ["lines", "digits"])
def test_exact_stages_compute_in_float32_under_autocast(task: str) -> None:
    if task == "lines":
        network: Any = LineNetwork(ModelConfig(hidden=8, channels=(4, 4, 4)), 5).eval()
    else:
        network = DigitNetwork(ModelConfig(name="digits", hidden=8, channels=(4, 4, 4, 4)), 5, 32).eval()
    kinds: list[torch.dtype] = []
    for part in (network.stem, network.blocks[0].conv1):
        part.register_forward_hook(lambda part, given, found: kinds.append(found.dtype))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(1, 1, 32, 64))
        network.exact = ("convolutions", "sequence")
        network(torch.rand(1, 1, 32, 64))
    assert kinds == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]


def test_pooling_and_the_pair_of_lstms_are_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    network = LineNetwork(ModelConfig(hidden=8, channels=(4, 4, 4)), 5).eval()
    ink = torch.rand(2, 1, 37, 75)
    taught, _ = network(ink)
    with torch.no_grad():
        read, _ = network(ink)
    torch.testing.assert_close(read, taught.detach(), atol=1e-5, rtol=0)
