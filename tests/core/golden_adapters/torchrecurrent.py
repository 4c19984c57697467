"""Layers of the torchrecurrent package whose cells are units of ours."""

from typing import Any

import torch
from torch import Tensor

import core
from tests.golden import Entry, Leaves, reference

Unit = tuple[str, dict[str, Any], int]
UNITS: dict[str, Unit] = {
    "IndRNN": ("indrnn", {"activation": "tanh"}, 1),
    "MGU": ("mgu", {}, 1),
    "OriginalLSTM": ("lstm", {"forget_gate": False}, 2),
    "PeepholeLSTM": ("lstm", {"peephole": True}, 2),
}
"""Class -> our unit, its options, and how many states it has."""


@reference(*(f"torchrecurrent.{name}" for name in UNITS))
def run(entry: Entry, leaves: Leaves) -> Leaves:
    args = entry.args
    name, options, states = UNITS[entry.key.removeprefix("torchrecurrent.")]
    if "nonlinearity" in args and name == "indrnn":
        options = {"activation": args["nonlinearity"]}
    layers = args.get("num_layers", 1)
    net = core.stack(name, args["input_size"], args["hidden_size"], layers=layers, **options)
    net = net.to(leaves["in.x"].dtype)
    parameters = {}
    for layer in range(layers):
        own = {
            key.rsplit(".", 1)[1]: leaf
            for key, leaf in leaves.items()
            if key.startswith(f"param.cells.{layer}.")
        }
        own = ours(name, own)
        parameters |= {f"units.{layer}.{key}": leaf for key, leaf in own.items()}
    x = leaves["in.x"] if args.get("batch_first") else leaves["in.x"].transpose(0, 1)
    given = [leaves[f"in.state{part}"].unbind(0) for part in range(states) if f"in.state{part}" in leaves]
    start = None
    if given:
        start = tuple(zip(*given, strict=True)) if states > 1 else given[0]
    y, state = torch.func.functional_call(net, parameters, (x, start))
    outputs = {"out.y": y if args.get("batch_first") else y.transpose(0, 1)}
    parts = zip(*state, strict=True) if states > 1 else [state]
    return outputs | {f"out.state{index}": torch.stack(list(part)) for index, part in enumerate(parts)}


def ours(name: str, cell: dict[str, Tensor]) -> dict[str, Tensor]:
    """A cell's tensors under our names; units with one bias take the sum of the two."""
    if name == "lstm":
        nothing = torch.zeros_like(cell["weight_ih"][:, 0])
        return {"bias_ih": nothing, "bias_hh": nothing} | cell
    renamed = {"weight_ih": cell["weight_ih"]}
    renamed["weight_hh"] = cell["vector_u"] if name == "indrnn" else cell["weight_hh"]
    biases = [cell[key] for key in ("bias_ih", "bias_hh") if key in cell]
    renamed["bias"] = torch.stack(biases).sum(0) if biases else torch.zeros_like(cell["weight_ih"][:, 0])
    return renamed
