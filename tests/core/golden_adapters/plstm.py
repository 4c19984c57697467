"""pLSTM kernels and layers of the published torch code."""

from torch import Tensor, stack
from torch.func import functional_call

from core.kernels.plstm.grid import Gates, plstm_grid
from core.kernels.plstm.scan import plstm_scan
from core.units.grid.plstm import PLSTM
from core.units.grid.plstm2d import PLSTM2D
from tests.golden import Entry, Leaves, reference


@reference("pLSTM1D_torch")
def sequence(entry: Entry, leaves: Leaves) -> Leaves:
    q, k, v, s, t, m, d = (leaves[f"in.{name}"] for name in "QKVSTMD")
    y, end = plstm_scan(q, k, v, s, t, m, d, leaves.get("in.C0"), chunk=2 ** entry.about.get("levels", 3))
    return {"out.y": y, "out.C": end}


@reference("pLSTM2D_torch")
def grid(entry: Entry, leaves: Leaves) -> Leaves:
    names = ("S0_r", "S0_d", "T0_rl", "T0_du", "T0_dl", "T0_ru", "M0_l", "M0_u")
    gates = Gates(*(leaves[f"in.{name}"] for name in names))
    return {"out.y": plstm_grid(leaves["in.Q"], leaves["in.K"], leaves["in.V"], gates, leaves["in.D0"])}


def projections(leaves: Leaves) -> Leaves:
    """Headwise projections, norm and output of both layers: (1, out, 1, heads, in) -> (heads, out, in)."""
    found = {"norm": leaves["param.mhnorm.scale"], "output.weight": leaves["param.outprojection.weight"]}
    for ours, name in (("query", "query"), ("key", "key"), ("value", "value_")):
        found[f"{ours}_weight"] = leaves[f"param.{name}.weight"].squeeze((0, 2)).transpose(0, 1)
        found[f"{ours}_bias"] = leaves[f"param.{name}.bias"].squeeze(-1)
    return found


def gate(leaves: Leaves, name: str) -> Tensor:
    """A gate of one number per head (and orientation)."""
    return leaves[f"param.{name}.bias"].flatten()


def transition(leaves: Leaves, name: str) -> tuple[Tensor, Tensor]:
    return leaves[f"param.{name}.eigenvalues_weight"].flatten(0, 2), leaves[
        f"param.{name}.eigenvalues_bias"
    ].flatten()


@reference("pLSTM1DLayer")
def layer(entry: Entry, leaves: Leaves) -> Leaves:
    x, conv = leaves["in.x"], leaves["param.conv._conv.weight"]
    width = leaves["param.outprojection.weight"].shape[0]
    unit = PLSTM(x.shape[-1], width, heads=entry.args["num_heads"], conv_width=conv.shape[-1]).to(x.dtype)
    weight, bias = transition(leaves, "transition")
    ours = projections(leaves) | {"conv_weight": conv, "conv_bias": leaves["param.conv._conv.bias"]}
    ours |= {name: gate(leaves, name) for name in ("source", "mark", "direct")}
    ours |= {"transition_weight": weight, "transition_bias": bias, "skip": leaves["param.passthrough.scale"]}
    assert set(ours) == set(dict(unit.named_parameters()))
    return {"out.y": functional_call(unit, ours, (x,))[0]}


@reference("pLSTM2DLayerFused")
def layer_on_grid(entry: Entry, leaves: Leaves) -> Leaves:
    x, mode = leaves["in.x"], entry.args["mode"]
    unit = PLSTM2D(
        x.shape[-1], leaves["param.outprojection.weight"].shape[0], mode=mode, heads=entry.args["num_heads"]
    )
    unit = unit.to(x.dtype)
    names = {
        "source": ("source",) if mode == "P" else ("source_r", "source_d"),
        "mark": ("mark",) if mode == "P" else ("mark_l", "mark_u"),
    }
    ours = projections(leaves) | {"direct": gate(leaves, "direct")}
    ours |= {name: stack([gate(leaves, part) for part in parts]) for name, parts in names.items()}
    turns = ("transition",) if mode == "P" else ("transition_r", "transition_d", "transition_rd")
    weights, biases = zip(*(transition(leaves, turn) for turn in turns), strict=True)
    ours |= {"transition_weight": stack(weights), "transition_bias": stack(biases)}
    if mode == "P":
        ours["orientation_weight"] = leaves["param.orientation_weight"].flatten(0, 1)
        ours["orientation_bias"] = leaves["param.orientation_bias"].flatten()
    assert set(ours) == set(dict(unit.named_parameters()))
    return {"out.y": functional_call(unit, ours, (x,))}
