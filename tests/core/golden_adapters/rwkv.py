"""Time mixing of RWKV-4, 6 and 7 from the demo programs: one row, matrices without modules."""

from torch.func import functional_call

from core.kernels.matrix_scan import decay_scan
from core.units.matrix.rwkv4 import RWKV4
from core.units.matrix.rwkv6 import RWKV6
from core.units.matrix.rwkv7 import RWKV7
from tests.golden import Entry, Leaves, reference

LINEAR = {name: f"{name}.weight" for name in ("key", "value", "receptance", "output", "gate")}
NORM = {"ln_w": "ln_x.weight", "ln_b": "ln_x.bias"}


def parameters(leaves: Leaves, unit: RWKV4 | RWKV6 | RWKV7, names: dict[str, str]) -> Leaves:
    """Our parameters by name from the reference's; both hold the same numbers in the same order."""
    ours = dict(unit.named_parameters())
    found = {}
    for name, leaf in leaves.items():
        target = names.get(name.removeprefix("param."), name.removeprefix("param."))
        if name.startswith("param.") and target in ours:
            found[target] = leaf.reshape(ours[target].shape)
    assert set(found) == set(ours)
    return found


@reference("RWKV_RNN.SA")
def rwkv4(entry: Entry, leaves: Leaves) -> Leaves:
    x = leaves["in.x"]
    unit = RWKV4(x.shape[-1], leaves["param.output"].shape[0], inner_size=leaves["param.key"].shape[0]).to(
        x.dtype
    )
    short = {"k": "key", "v": "value", "r": "receptance"}
    names = LINEAR | {f"time_mix_{letter}": f"time_mix_{word}" for letter, word in short.items()}
    state = list(unit.initial_state(x[:1]))
    for index, name in enumerate(("x_prev", "aa", "bb", "pp")):
        if f"in.{name}" in leaves:
            state[index] = leaves[f"in.{name}"][None]
    y, (_, aa, bb, pp) = functional_call(unit, parameters(leaves, unit, names), (x[None], tuple(state)))
    return {"out.y": y[0], "out.aa": aa[0], "out.bb": bb[0], "out.pp": pp[0]}


@reference("naive_recurrent_rwkv6")
def rwkv6_op(entry: Entry, leaves: Leaves) -> Leaves:
    q, k, v, w = (leaves[f"in.{name}"].transpose(1, 2) for name in ("q", "k", "v", "w"))
    scale = entry.args.get("scale") or q.shape[-1] ** -0.5
    o, state = decay_scan(q * scale, k, v, w, leaves.get("in.h0"), bonus=leaves["in.u"], chunk=8)
    return {"out.o": o.transpose(1, 2), "out.state": state}


@reference("time_mixing looped")
def rwkv6(entry: Entry, leaves: Leaves) -> Leaves:
    x, state = leaves["in.x"], leaves["in.state0"]
    heads, width = entry.args["heads"], entry.args["head_size"]
    low, decay = leaves["param.tm_w2"].shape[1], leaves["param.td_w2"].shape[0]
    unit = RWKV6(x.shape[-1], heads * width, heads=heads, mix_rank=low, decay_rank=decay).to(x.dtype)
    names = LINEAR | NORM | {f"{name}_maa": f"time_maa_{name}" for name in "xwkvrg"}
    names |= {"tm_w1": "time_maa_w1", "tm_w2": "time_maa_w2", "time_first": "time_faaaa"}
    names |= {"td_w1": "time_decay_w1", "td_w2": "time_decay_w2"}
    memory = state[2:].reshape(1, heads, width, width)
    y, (last, memory) = functional_call(
        unit, parameters(leaves, unit, names), (x[None], (state[1:2], memory))
    )
    end = state.clone()
    end[1], end[2:] = last[0], memory.reshape(width, -1)
    return {"out.y": y[0], "out.state": end}


class Mix(RWKV7):
    """Gives the first layer's value too."""

    forward = RWKV7.mix  # pyright: ignore[reportAssignmentType]


@reference("time_mixing__")
def rwkv7(entry: Entry, leaves: Leaves) -> Leaves:
    x, heads = leaves["in.x"], entry.args["heads"]
    residual = entry.args["layer_id"] > 0
    gates = {"w1": "decay_rank", "a1": "rate_rank", "v1": "value_rank", "g1": "gate_rank"}
    ranks = {
        rank: leaves[f"param.{gate}"].shape[1] for gate, rank in gates.items() if f"param.{gate}" in leaves
    }
    width = leaves["param.key"].shape[0]
    unit = Mix(x.shape[-1], width, heads=heads, value_residual=residual, **ranks).to(x.dtype)
    memory = leaves["in.S0"].mT[None]  # the reference keeps (value, key)
    state = leaves["in.x_prev"][None], memory
    first = leaves["in.v_first"][None] if residual else None
    y, first, (_, memory) = functional_call(
        unit, parameters(leaves, unit, LINEAR | NORM), (x[None], state, first)
    )
    return {"out.y": y[0], "out.state": memory[0].mT, "out.v_first_out": first[0]}
