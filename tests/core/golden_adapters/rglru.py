"""The recurrentgemma package: convolution and blocks over packed documents."""

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from core.blocks.griffin import RecurrentBlock
from core.blocks.rows import Documents
from core.layouts.recurrent_gemma import RECURRENTGEMMA, from_published
from core.parts.conv import CausalConv
from core.units.diagonal.rg_lru import RGLRU
from tests.core.golden_adapters.recurrent_gemma import Scan
from tests.golden import Entry, Leaves, reference


def published(leaves: Leaves) -> dict[str, Tensor]:
    return {name.removeprefix("param."): part for name, part in leaves.items() if name.startswith("param.")}


def documents(leaves: Leaves) -> Documents:
    return Documents.cut(leaves["in.segment_pos"] == 0, None)


def present(entry: Entry, outputs: dict[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in outputs.items() if name in entry.about["tensors"]}


@reference("Conv1D")
def conv(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    x, pieces = leaves["in.x"], documents(leaves)
    unit = CausalConv(entry.args["width"], entry.args["temporal_width"]).to(x)
    weights = {"weight": leaves["param.w"], "bias": leaves["param.b"]}
    split = pieces.split(x)
    y, _ = functional_call(unit, weights, (split, unit.initial_state(split)))
    # the published cache holds the last inputs of the row, whatever document they belong to
    _, window = functional_call(unit, weights, (x, unit.initial_state(x)))
    return present(entry, {"out.y": pieces.merge(y), "out.cache": window[:, 1:]})


@reference("RecurrentBlock")
def block(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    x, pieces, args = leaves["in.x"], documents(leaves), entry.args
    unit = RecurrentBlock(
        args["width"],
        args["width"],
        lru_size=args.get("lru_width"),
        heads=args["num_heads"],
        conv_width=args.get("conv1d_temporal_width", 4),
    ).to(x)
    weights = from_published(published(leaves), unit, RECURRENTGEMMA)
    split = pieces.split(x)
    window, (h, _) = unit.initial_state(split)
    # a row that begins in the middle of a document has seen tokens, though none is handed over
    state = (window, (h, pieces.continues_from))
    return {"out.y": pieces.merge(functional_call(unit, weights, (split, state))[0])}


@reference("RGLRU")
def recurrence(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    x = leaves["in.x"]
    unit = RGLRU(entry.args["width"], entry.args["width"], heads=entry.args["num_heads"]).to(x)
    weights = from_published(published(leaves), unit, RECURRENTGEMMA)
    start = leaves.get("in.h0", torch.zeros_like(x[:, 0]))
    y, h = functional_call(
        Scan(unit),
        {f"unit.{name}": part for name, part in weights.items()},
        (x, start, leaves["in.segment_pos"] == 0),
    )
    return present(entry, {"out.y": y, "out.h": h})
