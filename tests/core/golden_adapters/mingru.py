"""minGRU and minLSTM of minGRU-pytorch: one packed projection, positive values, no bias."""

import torch
from torch.func import functional_call

from core.units.diagonal.min_gru import MinGRU
from core.units.diagonal.min_lstm import MinLSTM
from tests.golden import Entry, Leaves, reference


@reference("minGRU")
def min_gru(entry: Entry, leaves: Leaves) -> Leaves:
    return compare(MinGRU, entry, ("value", "gate"), leaves)


@reference("minLSTM")
def min_lstm(entry: Entry, leaves: Leaves) -> Leaves:
    return compare(MinLSTM, entry, ("value", "forget_gate", "input_gate"), leaves)


def compare(
    unit_class: type[MinGRU | MinLSTM], entry: Entry, order: tuple[str, ...], leaves: Leaves
) -> Leaves:
    x = leaves["in.x"]
    packed = next(leaf for name, leaf in leaves.items() if name.startswith("param.to_hidden_and"))
    parts = packed.chunk(len(order))
    weights = {f"{name}.weight": part for name, part in zip(order, parts, strict=True)}
    out = leaves.get("param.to_out.weight")
    if out is not None:
        weights["out.weight"] = out
    options = {"expansion": entry.args.get("expansion_factor", 1.0), "projection": out is not None}
    unit = unit_class(x.shape[-1], x.shape[-1], **options, positive=True, bias=False).to(x.dtype)
    outputs = []
    for mode in unit.modes:
        state = leaves["in.h0"].squeeze(1) if "in.h0" in leaves else None
        y, end = functional_call(unit, weights, (x, state, mode))
        outputs.append({"out.y": y, "out.h_last": end[:, None]})
    return {name: torch.stack([each[name] for each in outputs]).mean(0) for name in outputs[0]}
