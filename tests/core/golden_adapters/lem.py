"""The authors' LEMCell, time first."""

import torch

import core
from tests.golden import Entry, Leaves, reference


@reference("LEMCell")
def run(entry: Entry, leaves: Leaves) -> Leaves:
    args, x = entry.args, leaves["in.x"].transpose(0, 1)
    unit = core.build("lem", args["ninp"], args["nhid"], dt=args.get("dt", 1.0)).to(x.dtype)
    hidden = args["nhid"]
    dy, dz, z = leaves["param.hid2hid.bias"].split(hidden)
    parameters = {
        "weight_ih": leaves["param.inp2hid.weight"],
        "weight_hh": leaves["param.hid2hid.weight"],
        "weight_z": leaves["param.transform_z.weight"],
        "bias": leaves["param.inp2hid.bias"] + torch.cat([dy, dz, leaves["param.transform_z.bias"], z]),
    }
    start = (leaves["in.y0"], leaves["in.z0"]) if "in.y0" in leaves else None
    y, (last_y, last_z) = torch.func.functional_call(unit, parameters, (x, start))
    return {"out.y": y.transpose(0, 1), "out.y_last": last_y, "out.z_last": last_z}
