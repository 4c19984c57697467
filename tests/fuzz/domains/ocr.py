"""Pages in ALTO, PAGE and JSON, pictures, models of kraken."""

import io
import random
from functools import lru_cache
from typing import Any

import numpy as np

from core import config
from tests.fuzz import mutate
from tests.fuzz.reader import Reader
from vision.ocr.answer import Line, Page
from vision.ocr.config import TrainConfig
from vision.ocr.formats import read_page_file, written
from vision.ocr.image import read_grey
from vision.ocr.layouts.kraken import load_kraken


@lru_cache
def page(form: str) -> str:
    line = Line(
        "a b", 0.9, polygon=((0, 0), (90, 0), (90, 20), (0, 20)), baseline=((0, 15), (90, 15)), name="l1"
    )
    return written(Page("a.png", 100, 60, (line, line)), form)


def make_page(chance: random.Random) -> bytes:
    return mutate.words(chance, page(chance.choice(("alto", "page", "page", "alto"))))


def make_json(chance: random.Random) -> bytes:
    import json

    return mutate.as_json(chance, mutate.tree(chance, json.loads(page("json"))))


def read_page(path: str) -> Any:
    found = read_page_file(path)
    for form in ("alto", "page", "hocr", "json"):
        written(found, form).encode()
    return None


@lru_cache
def picture(kind: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    grey = (np.arange(48 * 32).reshape(32, 48) % 256).astype(np.uint8)
    Image.fromarray(grey).save(file, kind)
    return file.getvalue()


def make_picture(chance: random.Random) -> bytes:
    return mutate.blocks(chance, picture(chance.choice(("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM", "WEBP"))))


def read_picture(path: str) -> Any:
    grey = read_grey(path)
    assert grey.dtype == np.uint8
    assert grey.ndim == 2
    return None


@lru_cache
def kraken() -> bytes:
    import json

    import torch
    from safetensors.torch import save

    about = {
        "net": {
            "_model": "TorchVGSLModel",
            "_tasks": ["recognition"],
            "vgsl": "[1,8,0,1 Lfx4 O1c3]",
            "codec": {"a": [1], "b": [2]},
        }
    }
    return save({"net.nn.L_0.layer.weight_ih_l0": torch.zeros(16, 8)}, {"kraken_meta": json.dumps(about)})


def make_kraken(chance: random.Random) -> bytes:
    if chance.random() < 0.3:  # a protobuf of CoreML: fields of lengths that may lie
        data = bytes([0x0A, 20, *range(20), 0x12, 10, *range(10), 0xA2, 0x1F, 6, 0x0A, 4, 1, 2, 3, 4])
        return mutate.blocks(chance, data)
    return mutate.safetensors(chance, kraken())


READERS = [
    Reader("ocr-pages", make_page, read_page, ".xml", 1.5),
    Reader("ocr-json", make_json, read_page, ".json", 1.0),
    Reader("ocr-pictures", make_picture, read_picture, ".png", 1.5),
    Reader("ocr-kraken", make_kraken, lambda path: len(load_kraken(path)[0]), ".safetensors", 1.0),
    Reader(
        "ocr-settings",
        lambda chance: mutate.words(chance, config.to_toml(config.to_dict(TrainConfig()))),
        lambda path: config.to_dict(config.resolve(TrainConfig(), path)),
        ".toml",
        0.8,
    ),
]
