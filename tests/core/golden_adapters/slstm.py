"""slstm_forward of the xlstm package with either pointwise, on inputs that are projected already."""

import torch

import core
from tests.golden import Entry, Leaves, reference


@reference("slstm_forward")
def run(entry: Entry, leaves: Leaves) -> Leaves:
    projected = leaves["in.Wx"].transpose(0, 1)
    heads, _, own = leaves["param.R"].shape
    states = sum(name.startswith("in.state") for name in leaves)
    pointwise = (
        "lstm" if sum(name.startswith("out.state") for name in leaves) == 2 or states == 2 else "slstm"
    )
    width = projected.shape[-1]
    unit = core.build("slstm", width, heads * own, heads=heads, pointwise=pointwise).to(projected.dtype)
    parameters = {
        "weight_ih": torch.eye(width, dtype=projected.dtype),
        "weight_hh": leaves["param.R"],
        "bias": leaves["param.b"],
    }
    start = tuple(leaves[f"in.state{part}"] for part in range(states)) or None
    y, state = torch.func.functional_call(unit, parameters, (projected, start))
    return {"out.y": y.transpose(0, 1)} | {f"out.state{index}": part for index, part in enumerate(state)}
