"""Published checkpoints -> weights of ours: PyLaia, HTR-best-practices, AttentionHTR, kraken.

The tensors are taken as they are, the alphabet and the preparation of lines go into the card, and a
checkpoint whose keys do not fit is refused. No code of a file is ever run.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.door import arrays, safetensors
from core.errors import ConfigError, DataError, WeightsError
from core.weights import Card, load_into, load_torch, save
from vision.ocr.codec import Codec
from vision.ocr.layouts.pickled import named, read_pickle
from vision.ocr.line import LineSettings
from vision.ocr.models.published import build_published
from vision.ocr.stored import read_alphabet

LAYOUTS = ("kraken", "pylaia", "htr-best-practices", "attentionhtr", "scene-ctc")
OTHERS = {
    "calamari": "Calamari",
    "trocr": "TrOCR",
    "vision_encoder_decoder": "TrOCR",
    "tesseract": "Tesseract",
}
ASCII = tuple(chr(code) for code in range(33, 127))
LOWER = tuple("0123456789abcdefghijklmnopqrstuvwxyz")
"""Alphabets of the scene-text benchmark: case-sensitive and not."""


def bring_in(file: Path, out: Path, layout: str | None = None, alphabet: Path | None = None) -> list[str]:
    """Write a published checkpoint as weights of ours; gives what to say.

    Raises:
        ConfigError: no such layout, or an alphabet is needed.
        WeightsError: damaged, or of another network.
    """
    if not file.exists():
        raise WeightsError(f"{file}: there is no such file.")
    layout = guessed(file) if layout is None else layout
    if layout not in LAYOUTS:
        raise ConfigError(f"no layout {layout!r}; there are {', '.join(LAYOUTS)}.")
    if layout == "kraken":
        return bring_kraken(file, out)
    tensors, args, symbols, line = {
        "pylaia": from_pylaia,
        "htr-best-practices": from_htr,
        "attentionhtr": from_scene,
        "scene-ctc": from_scene,
    }[layout](file)
    if layout in ("attentionhtr", "scene-ctc"):
        layout = "attentionhtr" if args["Prediction"] == "Attn" else "scene-ctc"
    if alphabet is not None:
        symbols = read_alphabet(alphabet).symbols
    if symbols is None:
        raise ConfigError(f"{file}: says nothing of its alphabet; give --alphabet FILE.")
    try:
        network = build_published(layout, args)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(f"{file}: its settings do not make a network ({error}).") from error
    load_into(network, {f"network.{name}": value for name, value in tensors.items()})
    card = Card(
        "ocr lines",
        "lstm",
        f"imported from {file.name} ({layout})",
        "those of the checkpoint",
        extra={
            "codec": Codec(tuple(symbols)).as_dict(),
            "line": asdict(line),
            "layout": {"name": layout, "args": args},
        },
    )
    save(out, network, card)
    return [
        f"{out}: {layout}, {sum(t.numel() for t in tensors.values()):,} numbers, {len(symbols)} characters"
    ]


def guessed(file: Path) -> str:
    """The layout of a checkpoint.

    Raises:
        WeightsError: another tool wrote it, or none that is known.
    """
    from vision.ocr.foreign import is_kraken

    name = file.name.lower()
    if file.is_file() and is_kraken(file):
        return "kraken"
    for sign, tool in OTHERS.items():
        if sign in name or (file.is_dir() and any(sign in part.name.lower() for part in file.iterdir())):
            raise WeightsError(f"{file}: of {tool}, whose checkpoints are not read.")
    if file.is_dir():
        if (file / "model").is_file() or next(file.glob("*.ckpt"), None):
            return "pylaia"
        if (file / "htrnet.pt").is_file() or (file / "classes.npy").is_file():
            return "htr-best-practices"
        raise WeightsError(f"{file}: a folder without a checkpoint that is known.")
    if name.endswith(".ckpt"):
        return "pylaia"
    keys = set(state_of(file))
    if any(key.startswith("features.features.") for key in keys):
        return "htr-best-practices"
    if any(key.removeprefix("module.").startswith("FeatureExtraction.ConvNet") for key in keys):
        return "attentionhtr"
    if any(key.removeprefix("model.").startswith("conv.0.conv") for key in keys):
        return "pylaia"
    raise WeightsError(f"{file}: of no tool that is known; say its --layout.")


def state_of(file: Path) -> dict[str, Tensor]:
    """Tensors of a file of torch or of safetensors."""
    if file.suffix == ".safetensors":
        return safetensors(file)[0]
    return load_torch(file)


def bring_kraken(file: Path, out: Path) -> list[str]:
    """A kraken file as safetensors of kraken 7, which `read` takes as it is."""
    from vision.ocr.layouts.kraken import load_kraken
    from vision.ocr.layouts.kraken_write import write_kraken

    models, remarks = load_kraken(file)
    if file.suffix == ".safetensors":
        shutil.copyfile(file, out)
    else:
        write_kraken(out, models)
    tasks = ", ".join(sorted({task for model in models for task in model.tasks}))
    return [*remarks, f"{out}: kraken, {len(models)} models for {tasks}"]


Found = tuple[Mapping[str, Tensor], dict[str, Any], tuple[str, ...] | None, LineSettings]


def from_pylaia(file: Path) -> Found:
    """A folder of PyLaia (`model`, `*.ckpt`, `syms.txt`), or one checkpoint of it with `model` beside it."""
    folder = file if file.is_dir() else file.parent
    model = folder / "model"
    if not model.is_file():
        raise WeightsError(f"{file}: PyLaia keeps its settings in a file `model`, which is not there.")
    about = read_pickle(model)
    kwargs = about.get("kwargs") if isinstance(about, Mapping) else None
    if not isinstance(kwargs, Mapping):
        raise WeightsError(f"{model}: holds no settings of a PyLaia model.")
    args = {str(key): plain(value) for key, value in kwargs.items()}
    args["rnn_type"] = str(args.get("rnn_type", "LSTM")).rpartition(".")[2]
    activations = args.get("cnn_activation") or ["LeakyReLU"]
    args["cnn_activation"] = [str(name).rpartition(".")[2] for name in activations]
    checkpoint = file if file.is_file() else best_checkpoint(folder)
    stored = read_pickle(checkpoint)
    state = stored.get("state_dict", stored) if isinstance(stored, Mapping) else {}
    if isinstance(state.get("tr_engine"), Mapping):
        state = state["tr_engine"].get("model", {})
    tensors = {
        str(key).removeprefix("model."): value for key, value in state.items() if isinstance(value, Tensor)
    }
    if not tensors:
        raise WeightsError(f"{checkpoint}: holds no tensors.")
    symbols = pylaia_symbols(folder)
    height = 128
    if str(args.get("image_sequencer", "")).startswith("none-"):
        pools = [pool[1] if isinstance(pool, list) else pool for pool in args.get("cnn_poolsize", [])]
        factor = int(np.prod([p for p in pools if p])) or 1
        height = int(str(args["image_sequencer"]).partition("-")[2]) * factor
    height = int(np.clip(height, 16, 256))
    return tensors, args, symbols, LineSettings(height=height, margin=0, method="plain")


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint whose callback tells the lowest score; the newest where none does.

    Raises:
        WeightsError: there is none.
    """
    found = sorted(folder.glob("*.ckpt")) or sorted(folder.glob("experiment/*.ckpt"))
    if not found:
        raise WeightsError(f"{folder}: holds no checkpoint (*.ckpt).")
    scores: list[tuple[float, Path]] = []
    for path in found:
        stored = read_pickle(path)
        callbacks = stored.get("callbacks") if isinstance(stored, Mapping) else None
        for key, value in (callbacks or {}).items():
            score = value.get("current_score") if isinstance(value, Mapping) else None
            if score is not None and "ModelCheckpoint" in named(key):
                scores.append((float(score), path))
    return min(scores)[1] if scores else found[-1]


def pylaia_symbols(folder: Path) -> tuple[str, ...] | None:
    """Characters of `syms.txt`, in the order of their labels from 1; `<ctc>` is 0."""
    path = next((folder / n for n in ("syms.txt", "symbols.txt") if (folder / n).is_file()), None)
    if path is None:
        return None
    try:
        pairs = [
            row.rsplit(None, 1) for row in path.read_text(encoding="utf-8-sig").splitlines() if row.strip()
        ]
        numbered = {int(number): symbol for symbol, number in pairs}
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{path}: not a table of symbols ({error}).") from error
    if sorted(numbered) != list(range(len(numbered))):
        raise DataError(f"{path}: its numbers do not count from 0 without a gap.")
    return tuple(" " if numbered[i] == "<space>" else numbered[i] for i in range(1, len(numbered)))


def from_htr(file: Path) -> Found:
    """`htrnet.pt` with `classes.npy`, whose characters are the labels from 1; the network from its shapes."""
    folder = file if file.is_dir() else file.parent
    weights = file if file.is_file() else folder / "htrnet.pt"
    tensors = state_of(weights)
    classes = folder / "classes.npy"
    symbols: tuple[str, ...] | None = None
    if classes.is_file():
        stored = arrays(classes, classes, largest=1 << 20, error=DataError)
        symbols = tuple(str(c) for c in np.ravel(next(iter(stored.values()))).tolist())
    line = LineSettings(height=128, width=1024, margin=8, method="squeezed")
    return tensors, {"arch_cfg": htr_settings(tensors), "nclasses": outputs_of(tensors)}, symbols, line


def outputs_of(tensors: Mapping[str, Tensor]) -> int:
    """Outputs of the head that is read."""
    name = "top.fnl.1.weight" if "top.fnl.1.weight" in tensors else "top.cnn_top.weight"
    if name not in tensors:
        raise WeightsError("the checkpoint has no head of the best-practice network.")
    return len(tensors[name])


def htr_settings(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The architecture from the names and shapes of its tensors: pools stand where the published ones do."""
    blocks = sorted(
        (int(key.split(".")[2].removeprefix("cnv")), len(value))
        for key, value in tensors.items()
        if key.startswith("features.features.cnv") and key.endswith("conv1.weight")
    )
    groups: list[list[int]] = []
    for _, width in blocks:
        if groups and groups[-1][1] == width:
            groups[-1][0] += 1
        else:
            groups.append([1, width])
    config: list[Any] = []
    for number, group in enumerate(groups):
        config += ["M"] * bool(number) + [group]
    recurrent = {key: value for key, value in tensors.items() if key.startswith("top.rec.weight_hh")}
    gates = {4: "lstm", 3: "gru"}
    some = next(iter(recurrent.values()), None)
    kind = gates.get(len(some) // some.shape[1], "lstm") if some is not None else "lstm"
    head = "cnn" if some is None else "both" if "top.cnn.1.weight" in tensors else "rnn"
    width = groups[-1][1] if groups else 0
    first = tensors.get("top.rec.weight_ih_l0", tensors.get("top.cnn_top.weight"))
    return {
        "cnn_cfg": config,
        "flattening": "concat" if first is not None and first.shape[1] == 16 * width else "maxpool",
        "head_type": head,
        "rnn_type": kind,
        "rnn_layers": len({key.split("_l")[1][0] for key in recurrent}) or 1,
        "rnn_hidden_size": int(some.shape[1]) if some is not None else 1,
    }


def from_scene(file: Path) -> Found:
    """A state dict of the scene-text benchmark, `module.` in front of its keys."""
    tensors = {key.removeprefix("module."): value for key, value in state_of(file).items()}
    attention = "Prediction.generator.weight" in tensors
    head = tensors.get("Prediction.generator.weight" if attention else "Prediction.weight")
    if head is None:
        raise WeightsError(f"{file}: has no head of the scene-text benchmark.")
    if any(key.startswith("Transformation.") for key in tensors):
        from vision.ocr.models.tps import fiducials

        points: int | None = fiducials(tensors)
    else:
        points = None
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    kind = (
        "ResNet"
        if "FeatureExtraction.ConvNet.conv0_1.weight" in shapes
        else "RCNN"
        if any("GRCL" in key for key in shapes)
        else "VGG"
    )
    channels = {"ResNet": "conv4_2.weight", "RCNN": "9.weight", "VGG": "18.weight"}[kind]
    outputs = shapes.get(f"FeatureExtraction.ConvNet.{channels}")
    first = {"ResNet": "conv0_1.weight", "RCNN": "0.weight", "VGG": "0.weight"}[kind]
    inputs = shapes.get(f"FeatureExtraction.ConvNet.{first}")
    if outputs is None or inputs is None:
        raise WeightsError(f"{file}: its extractor is none of the scene-text benchmark.")
    sequence = "SequenceModeling.0.rnn.weight_hh_l0" in shapes
    args: dict[str, Any] = {
        "input_channel": inputs[1],
        "output_channel": outputs[0],
        "hidden_size": shapes["SequenceModeling.0.rnn.weight_hh_l0"][1] if sequence else 256,
        "num_class": len(head),
        "FeatureExtraction": kind,
        "SequenceModeling": "BiLSTM" if sequence else "None",
        "Prediction": "Attn" if attention else "CTC",
        "fiducials": points,
    }
    known = len(head) - (2 if attention else 1)
    symbols = {len(ASCII): ASCII, len(LOWER): LOWER}.get(known)
    return tensors, args, symbols, LineSettings(height=32, width=100, margin=0, method="fixed")


def plain(value: Any) -> Any:
    """A value of a pickle as JSON has it: classes by their name."""
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | torch.Size):
        return [plain(part) for part in value]
    return named(value)
