"""ParaRNN's diagonal cells; `negjac` is minus the derivative of a state by the one before it."""

from typing import Any

from torch import Tensor
from torch.func import functional_call

import core
from core.kernels.newton import jacobian, newton, shifted
from core.units.gated.headed_unit import head_projection
from tests.golden import Entry, Leaves, reference


@reference("GRUDiagMH")
def run_gru(entry: Entry, leaves: Leaves) -> Leaves:
    unit, parameters, gates = built("para_gru", entry, leaves)
    x = leaves["in.x"]
    h0 = leaves["in.h0"] if "in.h0" in leaves else unit.initial_state(x)
    y, _ = functional_call(unit, parameters, (x, h0))
    outputs = {"out.y": y}
    if "out.negjac" in entry.about["tensors"]:
        before = shifted((h0,), (y,))[0]
        before = before if before.requires_grad else before.requires_grad_()
        _, after = unit.cell.step(gates, (before,), (parameters["weight_hh"].flatten(),))
        outputs["out.negjac"] = -jacobian(after, (before,), create_graph=True)[:, :, 0, 0]
    return outputs


@reference("LSTMCIFGDiagMH")
def run_lstm(entry: Entry, leaves: Leaves) -> Leaves:
    unit, parameters, gates = built("para_lstm", entry, leaves)
    x = leaves["in.x"]
    h0, c0 = unit.initial_state(x)
    start = leaves["in.h0"] if "in.h0" in leaves else h0, leaves["in.c0"] if "in.c0" in leaves else c0
    y, _ = functional_call(unit, parameters, (x, start))
    weights = parameters["weight_hh"].flatten(), parameters["weight_ph"].flatten()
    _, c = newton(unit.cell.step, gates, start, weights)
    return {"out.h": y, "out.c": c}


def built(name: str, entry: Entry, leaves: Leaves) -> tuple[Any, dict[str, Tensor], Tensor]:
    """Our unit, its parameters under our names, and the projected input."""
    args = entry.args
    unit = core.build(name, args["input_dim"], args["state_dim"], heads=args["num_heads"])
    names = {"A": "weight_hh", "B": "weight_ih", "b": "bias", "C": "weight_ph"}
    parameters = {
        ours: leaves[f"param.{theirs}"] for theirs, ours in names.items() if f"param.{theirs}" in leaves
    }
    gates = head_projection(leaves["in.x"], parameters["weight_ih"], parameters["bias"])
    return unit.to(leaves["in.x"].dtype), parameters, gates
