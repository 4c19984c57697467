"""torch.nn.RNN, LSTM and GRU: any layers, directions, projection, with and without lengths."""

import torch
from torch import Tensor

import core
from core.layouts.torch_nn import torch_nn_names
from tests.golden import Entry, Leaves, reference


@reference("torch.nn.RNN", "torch.nn.LSTM", "torch.nn.GRU")
def run(entry: Entry, leaves: Leaves) -> Leaves:
    args = entry.args
    name = entry.key.removeprefix("torch.nn.").split()[0].lower()
    options = {} if name != "rnn" else {"activation": args.get("nonlinearity", "tanh")}
    if args.get("proj_size"):
        options["projection"] = args["proj_size"]
    net = core.stack(
        name,
        args["input_size"],
        args["hidden_size"],
        layers=args.get("num_layers", 1),
        directions=2 if args.get("bidirectional") else 1,
        bias=args.get("bias", True),
        **options,
    )
    net = net.to(leaves["in.x"].dtype)
    parameters = {ours: leaves[f"param.{theirs}"] for ours, theirs in torch_nn_names(net).items()}
    batch_first = args.get("batch_first", False)
    x = leaves["in.x"] if batch_first else leaves["in.x"].transpose(0, 1)
    lengths = leaves.get("in.lengths")
    y, state = torch.func.functional_call(net, parameters, (x, initial(leaves, name)), {"lengths": lengths})
    outputs = {"out.y": y if batch_first else y.transpose(0, 1)}
    if name == "lstm":
        outputs["out.hn"] = torch.stack([h for h, _ in state])
        outputs["out.cn"] = torch.stack([c for _, c in state])
    else:
        outputs["out.hn"] = torch.stack(state)
    return outputs


def initial(leaves: Leaves, name: str) -> tuple[Tensor | tuple[Tensor, ...], ...] | None:
    """The given state of all layers and directions, layer by layer."""
    if "in.h0" not in leaves:
        return None
    h = leaves["in.h0"].unbind(0)
    return tuple(zip(h, leaves["in.c0"].unbind(0), strict=True)) if name == "lstm" else h
