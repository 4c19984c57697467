"""Published checkpoints become weights of ours, networks leave the house; hostile files run nothing."""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import ConfigError, WeightsError
from tests.golden import ROOT, Entry, entries
from tests.vision.ocr.test_commands import run
from vision.ocr.layouts.kraken import load_kraken
from vision.ocr.layouts.pickled import named, read_pickle
from vision.ocr.layouts.published import bring_in
from vision.ocr.line import LineSettings, prepare
from vision.ocr.models.scene import Model
from vision.ocr.models.spelling import spelled, unlooped
from vision.ocr.reader import load_reader


def entry(start: str) -> Entry:
    """The first golden network of a name."""
    return next(e for e in entries("ocr") if e.file.startswith(start))


def line_image() -> np.ndarray:
    rng = np.random.default_rng(0)
    grey = np.full((60, 260), 230, np.uint8)
    for x in range(15, 240, 8):
        grey[18 : 40 + int(rng.integers(0, 9)), x : x + 3] = 30
    return grey


def pylaia_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Any]:
    """A folder as PyLaia leaves it: files that refer to classes that are not installed here."""
    found = entry("pylaia")
    module = types.ModuleType("laia_of_nobody")
    kinds = {}
    for name in ("LaiaCRNN", "ModelCheckpoint", "LeakyReLU"):
        kinds[name] = type(name, (), {"__module__": "laia_of_nobody"})
        setattr(module, name, kinds[name])
    monkeypatch.setitem(sys.modules, "laia_of_nobody", module)
    args = {**found.args, "cnn_activation": [kinds["LeakyReLU"]] * len(found.args["cnn_num_features"])}
    folder.mkdir()
    about = {"module": "laia.models.htr.laia_crnn", "name": "LaiaCRNN", "args": (), "kwargs": args}
    torch.save(about, folder / "model")
    state = {f"model.{name}": value for name, value in found.weights().items()}
    calls = {kinds["ModelCheckpoint"]: {"current_score": torch.tensor(0.1)}}
    torch.save({"state_dict": state, "callbacks": calls, "thing": kinds["LaiaCRNN"]()}, folder / "a.ckpt")
    symbols = ["<ctc>", "<space>", *(chr(97 + i) for i in range(found.args["num_output_labels"] - 2))]
    (folder / "syms.txt").write_text("".join(f"{s} {i}\n" for i, s in enumerate(symbols)))
    monkeypatch.delitem(sys.modules, "laia_of_nobody")
    return folder, found


def test_a_folder_of_pylaia_reads_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, found = pylaia_folder(tmp_path / "laia", monkeypatch)
    out = tmp_path / "w.safetensors"
    assert "pylaia" in bring_in(folder, out)[0]
    reader = load_reader(out, "lines")
    loaded = reader.network.state_dict()
    for name, value in found.weights().items():
        torch.testing.assert_close(loaded[f"network.{name}"], value)
    alone = reader.read([line_image()])[0]
    wide = np.concatenate([line_image()] * 2, 1)
    together = reader.read([line_image(), wide])[0]
    assert alone.text == together.text
    assert alone.confidence == pytest.approx(together.confidence, abs=1e-4)


def test_names_in_pickles_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = pylaia_folder(tmp_path / "laia", monkeypatch)
    about = read_pickle(folder / "model")
    assert named(about["kwargs"]["cnn_activation"][0]) == "laia_of_nobody.LeakyReLU"
    assert "laia_of_nobody" not in sys.modules


class Hostile:
    """Pickles as a call that would write a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return (open, (str(self.place), "w"))


def test_hostile_checkpoints_run_nothing(tmp_path: Path) -> None:
    place = tmp_path / "written"
    for name in ("a.ckpt", "a.pth", "model"):
        torch.save({"state_dict": Hostile(place), "kwargs": Hostile(place)}, tmp_path / name)
        with pytest.raises(WeightsError):
            bring_in(tmp_path / name, tmp_path / "w", None if name == "a.pth" else "pylaia")
        assert not place.exists()


def test_the_best_practice_network_is_built_from_its_tensors(tmp_path: Path) -> None:
    found = entry("htrnet")
    torch.save(found.weights(), tmp_path / "htrnet.pt")
    count = found.args["nclasses"] - 1
    np.save(tmp_path / "classes.npy", np.array([chr(97 + i) if i else " " for i in range(count)]))
    bring_in(tmp_path, tmp_path / "w.safetensors")
    reader = load_reader(tmp_path / "w.safetensors", "lines")
    line = reader.read([line_image()])[0]
    assert line.text == "".join(char.text for char in line.chars)
    args = reader.card.extra["layout"]["args"]["arch_cfg"]
    recurrent = () if found.args["arch_cfg"]["head_type"] == "cnn" else ("rnn_layers", "rnn_hidden_size")
    for key in ("flattening", "head_type", *recurrent):
        assert args[key] == found.args["arch_cfg"][key]


@pytest.mark.parametrize("name", ["none_vgg_bilstm_ctc", "none_rcnn_none_ctc"])
def test_scene_text_checkpoints_read(name: str, tmp_path: Path) -> None:
    found = entry(name)
    torch.save({f"module.{key}": value for key, value in found.weights().items()}, tmp_path / "a.pth")
    count = found.args["num_class"] - 1
    (tmp_path / "abc").write_text("".join(f"{chr(0x4E00 + i)}\n" for i in range(count)))
    said = bring_in(tmp_path / "a.pth", tmp_path / "w", None, tmp_path / "abc")
    assert "scene-ctc" in said[0]
    reader = load_reader(tmp_path / "w", "lines")
    image = found.inputs()["image"][:1, :1]
    with torch.no_grad():
        logits = reader.network((1 - image) / 2)[0].transpose(0, 1)
    torch.testing.assert_close(logits, found.outputs()["logits"][:1], atol=1e-4, rtol=1e-4)
    assert reader.read([line_image()])[0].text is not None


def test_attentionhtr_spells(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"imgH": 32, "imgW": 100, "output_channel": 48, "hidden_size": 32, "batch_max_length": 8}
    network = Model(**sizes, num_class=14, Prediction="Attn")
    torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, tmp_path / "a.pth")
    (tmp_path / "abc").write_text("".join(f"{chr(0x4E00 + i)}\n" for i in range(12)))
    bring_in(tmp_path / "a.pth", tmp_path / "w", None, tmp_path / "abc")
    reader = load_reader(tmp_path / "w", "lines")
    line = reader.read([line_image()])[0]
    assert len(line.chars) == len(line.text)
    with pytest.raises(ConfigError, match="leave rules out"):
        reader.read([line_image()], type(reader.decoding)(allow=line.text or "\u4e00"))


def test_an_mlmodel_becomes_safetensors_that_read_the_same(tmp_path: Path) -> None:
    source = ROOT / "ocr" / "kraken_coreml.mlmodel"
    bring_in(source, tmp_path / "k.safetensors")
    (old,), (new,) = load_kraken(source)[0], load_kraken(tmp_path / "k.safetensors")[0]
    assert old.codec == new.codec
    assert old.network.spec == new.network.spec
    for (a, x), (b, y) in zip(
        old.network.state_dict().items(), new.network.state_dict().items(), strict=True
    ):
        assert a == b
        torch.testing.assert_close(x, y)


def test_other_tools_are_named(tmp_path: Path) -> None:
    (tmp_path / "calamari.json").write_text("{}")
    with pytest.raises(WeightsError, match="Calamari"):
        bring_in(tmp_path / "calamari.json", tmp_path / "w")
    (tmp_path / "cut.mlmodel").write_bytes((ROOT / "ocr" / "kraken_coreml.mlmodel").read_bytes()[:900])
    code, _, said = run("import", tmp_path / "cut.mlmodel", "-o", tmp_path / "w")
    assert code != 0
    assert "WeightsError" in said
    assert not (tmp_path / "w").exists()


def test_lines_are_prepared_as_the_published_tools_do() -> None:
    grey = line_image()
    plain = prepare(grey, LineSettings(height=128, margin=0, method="plain"))
    assert plain.shape == (128, round(260 * 128 / 60))
    squeezed = prepare(grey, LineSettings(height=128, width=1024, margin=8, method="squeezed"))
    assert squeezed.shape == (128, 1024)
    assert (squeezed[8:68, 8:268] == 255 - grey).all()  # low images are not enlarged
    assert prepare(grey, LineSettings(height=32, width=100, margin=0, method="fixed")).shape == (32, 100)


def test_loops_are_cut_and_marked() -> None:
    said = [3, 1, 2, 1, 2, 1, 2, 1, 2, 5]
    assert unlooped(said) == 3
    assert unlooped([1] * 7) == 7
    assert unlooped([1] * 9) == 1
    assert unlooped([1, 2, 3, 4, 5]) == 5
    p = np.full((11, 8), 0.01)
    for step, label in enumerate([*said, 0]):
        p[step, label + 1 if label else 1] = 0.9
    told = spelled(p, stop=1, first=2, frames=50)
    assert told.looped
    assert told.labels == (3, 1, 2)
    assert told.confidence == pytest.approx(0.9**3 * 0.3)
    assert not spelled(p[-1:], stop=1, first=2, frames=50).looped
    assert len(spelled(p[:3], stop=1, first=2, frames=2).labels) == 2


@pytest.mark.slow
def test_onnx_equals_torch_at_another_width(tmp_path: Path, untrained: dict[str, Path]) -> None:
    code, out, said = run("export", "-o", tmp_path / "a.onnx", "--weights", untrained["lines"])
    assert code == 0, said
    assert "log-probabilities" in out
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    reader = load_reader(untrained["lines"], "lines")
    ink = prepare(line_image(), reader.line)
    found = session.run(None, {"ink": ink[None, None].astype(np.float32) / 255})[0]
    np.testing.assert_allclose(found[0], reader.log_probabilities([line_image()])[0], atol=1e-4)


def test_export_refuses_other_suffixes(tmp_path: Path, untrained: dict[str, Path]) -> None:
    assert "written as .onnx" in run("export", "-o", tmp_path / "a.bin", "--weights", untrained["lines"])[2]
    said = run("export", "-o", tmp_path / "a.safetensors", "--weights", untrained["lines"])[2]
    assert "VGSL networks alone" in said


def test_a_segmenter_of_kraken_finds_lines(tmp_path: Path) -> None:
    from vision.ocr.synth.writing import letter

    grey, _ = letter(0, 3)
    Image.fromarray(grey).save(tmp_path / "p.png")
    model = ROOT / "ocr" / "kraken_models.safetensors"
    words = ["segment", tmp_path / "p.png", "-o", tmp_path / "p.xml", "--weights"]
    assert run(*words, model)[0] == 0
    assert "no segmenter" in run(*words, ROOT / "ocr" / "kraken_coreml.mlmodel")[2]
