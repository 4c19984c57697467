"""RWKV-4 of the transformers package: our modules hold its names and shapes."""

from torch import cat
from torch.func import functional_call

from core.layouts.rwkv4 import RWKV4LanguageModel, to_published
from core.units.matrix.rwkv4 import RWKV4, RWKV4ChannelMix
from tests.golden import Entry, Leaves, reference

STATES = ("ffn_x", "att_x", "num", "den", "max")


def parameters(leaves: Leaves) -> Leaves:
    return {name.removeprefix("param."): leaf for name, leaf in leaves.items() if name.startswith("param.")}


@reference("transformers.models.rwkv.modeling_rwkv.RwkvSelfAttention")
def time_mix(entry: Entry, leaves: Leaves) -> Leaves:
    x, hidden = leaves["in.x"], entry.args["hidden_size"]
    unit = RWKV4(hidden, hidden, inner_size=entry.args.get("attention_hidden_size")).to(x.dtype)
    names = ("x_prev", "num", "den", "max")
    state = list(unit.initial_state(x))
    for index, name in enumerate(names):
        state[index] = leaves.get(f"in.{name}", state[index])
    y, end = functional_call(unit, parameters(leaves), (x, tuple(state)))
    found = {"out.y": y} | {
        f"out.{name}": part for name, part in zip(("x_last", *names[1:]), end, strict=True)
    }
    return {name: part for name, part in found.items() if name in entry.about["tensors"]}


@reference("transformers.models.rwkv.modeling_rwkv.RwkvFeedForward")
def channel_mix(entry: Entry, leaves: Leaves) -> Leaves:
    x = leaves["in.x"]
    unit = RWKV4ChannelMix(entry.args["hidden_size"], entry.args.get("intermediate_size")).to(x.dtype)
    y, last = functional_call(unit, parameters(leaves), (x, leaves.get("in.x_prev")))
    found = {"out.y": y, "out.x_last": last}
    return {name: part for name, part in found.items() if name in entry.about["tensors"]}


@reference("transformers.models.rwkv.modeling_rwkv.RwkvForCausalLM")
def language_model(entry: Entry, leaves: Leaves) -> Leaves:
    args, tokens = entry.args, leaves["in.input_ids"]
    model = RWKV4LanguageModel(
        args["vocab_size"],
        args["hidden_size"],
        args["num_hidden_layers"],
        args.get("attention_hidden_size"),
        args.get("intermediate_size"),
    ).to(leaves["param.head.weight"].dtype)
    ours = parameters(leaves)
    if "out.logits_first" in entry.about["tensors"]:
        first = args["first"]
        head, middle = functional_call(model, ours, (tokens[:, :first],))
        tail, end = functional_call(model, ours, (tokens[:, first:], middle))
        found = {"out.logits_first": head, "out.logits_second": tail}
        for moment, state in (("first", middle), ("end", end)):
            parts = zip(STATES, to_published(state), strict=True)
            found |= {f"out.state_{name}_{moment}": part for name, part in parts}
        return found
    if "out.state_num" not in entry.about["tensors"]:
        return {"out.logits": functional_call(model, ours, (tokens,))[0]}
    logits, state = [], None
    for index in range(tokens.shape[1]):
        one, state = functional_call(model, ours, (tokens[:, index : index + 1], state))
        logits.append(one)
    assert state is not None
    parts = zip(STATES, to_published(state), strict=True)
    return {"out.logits": cat(logits, 1)} | {f"out.state_{name}": part for name, part in parts}
