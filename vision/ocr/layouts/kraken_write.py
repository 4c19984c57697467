"""VGSL networks -> safetensors of kraken 7, which kraken and `load_kraken` read."""

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from core.errors import ConfigError
from core.files import write_bytes
from vision.ocr.layouts.kraken import KrakenModel

VERSION = "7.0"


def write_kraken(path: Path, models: Sequence[KrakenModel]) -> None:
    """One file of one or more models.

    Raises:
        ConfigError: there is no model.
    """
    from safetensors.torch import save

    if not models:
        raise ConfigError("there is no model to write.")
    tensors: dict[str, Tensor] = {}
    meta: dict[str, Any] = {}
    for model in models:
        name = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{path.stem} {model.name}"))
        meta[name] = about(model)
        for key, value in model.network.state_dict().items():
            tensors[f"{name}.{key}"] = value.detach().contiguous().clone()
    write_bytes(path, save(tensors, {"kraken_meta": json.dumps(meta, sort_keys=True)}))


def about(model: KrakenModel) -> Mapping[str, Any]:
    """The metadata of a model as kraken 7 has it."""
    kept = model.about
    codec = None if model.codec is None else {text: list(code) for text, code in model.codec.codes.items()}
    return {
        "_model": "TorchVGSLModel",
        "_tasks": list(model.tasks),
        "_kraken_min_version": VERSION,
        "vgsl": str(kept.get("vgsl") or model.network.spec),
        "codec": codec,
        "seg_type": kept.get("seg_type"),
        "one_channel_mode": kept.get("one_channel_mode", "L"),
        "model_type": kept.get("model_type", list(model.tasks)),
        "legacy_polygons": bool(kept.get("legacy_polygons", True)),
        "class_mapping": kept.get("class_mapping"),
        "hyper_params": kept.get("hyper_params", {}),
        "accuracy": kept.get("accuracy", []),
        "metrics": kept.get("metrics", []),
    }
