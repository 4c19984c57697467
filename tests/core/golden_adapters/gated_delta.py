"""Gated DeltaNet: the bare rule and the layer of Qwen3-Next, whole and through its cache."""

import inspect

from torch import Tensor
from torch.func import functional_call

from core.kernels.matrix_scan import delta_scan
from core.kernels.matrix_scan.definition import delta_scan_ref
from core.layouts import qwen3_next
from core.parts.heads import unit_length
from tests.golden import Entry, Leaves, reference


@reference(
    "transformers.models.qwen3_next.modeling_qwen3_next.torch_chunk_gated_delta_rule",
    "transformers.models.qwen3_next.modeling_qwen3_next.torch_recurrent_gated_delta_rule",
)
def gated_delta_rule(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    q, k, v, beta, g = (leaves[f"in.{name}"] for name in ("q", "k", "v", "beta", "g"))
    if entry.args.get("use_qk_l2norm_in_kernel", True):
        q, k = unit_length(q), unit_length(k)
    shared = v.shape[2] // k.shape[2]
    q, k = (x.repeat_interleave(shared, 2) for x in (q * q.shape[-1] ** -0.5, k))
    start = leaves.get("in.h0")
    if "recurrent" in entry.key:
        o, state = delta_scan_ref(q, k, v, beta, g, start)
    else:
        o, state = delta_scan(q, k, v, beta, g, start, chunk=16)
    outputs = {"out.o": o, "out.state": state}
    return {name: value for name, value in outputs.items() if name in entry.about["tensors"]}


@reference("transformers.models.qwen3_next.Qwen3NextGatedDeltaNet")
def gated_delta_net(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    known = inspect.signature(qwen3_next.gated_delta_net).parameters
    x = leaves["in.x"]
    unit = qwen3_next.gated_delta_net(**{key: entry.args[key] for key in known if key in entry.args}).to(x)
    published = {
        name.removeprefix("param."): part for name, part in leaves.items() if name.startswith("param.")
    }
    weights = qwen3_next.from_published(published, unit)
    prefill = entry.args.get("prefill")
    if prefill is None:
        return {"out.y": functional_call(unit, weights, (x,))[0]}
    head, state = functional_call(unit, weights, (x[:, :prefill],))
    # hand the state over in the published layout, and take single steps from there
    after = qwen3_next.to_published_cache(state)
    state = qwen3_next.from_published_cache(*after)
    steps, state = functional_call(unit, weights, (x[:, prefill:], state, "step"))
    end = qwen3_next.to_published_cache(state)
    return {
        "out.y_prefill": head,
        "out.conv_state_prefill": after[0],
        "out.recurrent_state_prefill": after[1],
        "out.y_steps": steps,
        "out.conv_state_end": end[0],
        "out.recurrent_state_end": end[1],
    }
