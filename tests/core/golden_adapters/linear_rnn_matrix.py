"""Matrix-state recurrences: the bare operators of the linear-attention family."""

import torch
from torch import Tensor

from core.kernels.matrix_scan import decay_scan, delta_scan
from core.units.matrix.delta_product import delta_product_scan
from core.units.matrix.linear_attention import normalised_scan
from core.units.matrix.retention import retention_log_decay
from tests.golden import Entry, Leaves, reference


def asked(entry: Entry, **outputs: Tensor) -> dict[str, Tensor]:
    """The outputs that the file holds, by their names."""
    return {
        f"out.{name}": value for name, value in outputs.items() if f"out.{name}" in entry.about["tensors"]
    }


def swapped(leaves: Leaves) -> Leaves:
    """Sequences stored (B, h, T, .) -> (B, T, h, .); states stay."""
    return {name: x if "0" in name or x.ndim < 3 else x.transpose(1, 2) for name, x in leaves.items()}


def scale(entry: Entry, leaves: Leaves) -> float:
    """What the reference multiplies its query by."""
    return entry.args.get("scale") or leaves["in.q"].shape[-1] ** -0.5


@reference("naive_recurrent_linear_attn")
def linear_attention(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    q, k, v = (leaves[f"in.{name}"] for name in "qkv")
    start = leaves.get("in.h0")
    q = q * scale(entry, leaves)
    if not entry.about.get("normalize"):
        o, state = decay_scan(q, k, v, None, start)
        return asked(entry, o=o, state=state)
    b, _, h, key = k.shape
    start = k.new_zeros(b, h, key, v.shape[-1]) if start is None else start
    z0 = leaves.get("in.z0")  # (B, 1, h, K)
    z0 = k.new_zeros(b, 1, h, key) if z0 is None else z0
    o, state = normalised_scan(q, k, v, torch.cat([start, z0.transpose(1, 2).mT], -1))
    return asked(entry, o=o, state=state[..., :-1], z=state[..., -1].unsqueeze(1))


@reference("naive_retention")
def retention(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    q, k, v = (swapped(leaves)[f"in.{name}"] for name in "qkv")
    log_decay = retention_log_decay(q.shape[2]).to(q).expand(q.shape[:3])
    o, state = decay_scan(q * scale(entry, leaves), k, v, log_decay, leaves.get("in.h0"))
    return asked(entry, o=o.transpose(1, 2), state=state)


@reference("naive_recurrent_simple_gla")
def simple_gla(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    q, k, v, g = (leaves[f"in.{name}"] for name in "qkvg")
    o, state = decay_scan(q * scale(entry, leaves), k, v, g, leaves.get("in.h0"))
    return asked(entry, o=o, state=state)


@reference("naive_recurrent_gla")
def gla(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    q, v = leaves["in.q"], leaves["in.v"]
    if "in.f" in leaves:  # HGRN2: the key is what the forget gate leaves free
        k, log_decay = 1 - leaves["in.f"], leaves["in.f"].log()
    else:
        k, log_decay = leaves["in.k"], leaves["in.gk"]
    o, state = decay_scan(q * scale(entry, leaves), k, v, log_decay, leaves.get("in.h0"))
    return asked(entry, o=o, state=state)


@reference("delta_rule_recurrence")
def delta_rule(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    inputs = swapped(leaves)
    q, k, v, beta = (inputs[f"in.{name}"] for name in ("q", "k", "v", "beta"))
    o, state = delta_scan(q * scale(entry, leaves), k, v, beta, None, leaves.get("in.h0"))
    return asked(entry, o=o.transpose(1, 2), state=state)


@reference("naive_recurrent_gated_delta_rule", "naive_recurrent_kda")
def gated_delta_rule(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    q, k, v, beta, g = (leaves[f"in.{name}"] for name in ("q", "k", "v", "beta", "g"))
    o, state = delta_scan(q * scale(entry, leaves), k, v, beta, g, leaves.get("in.h0"))
    return asked(entry, o=o, state=state)


@reference("naive_recurrent_gated_delta_product")
def gated_delta_product(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    q, k, v, beta = (leaves[f"in.{name}"] for name in ("q", "k", "v", "beta"))
    n = k.shape[1] // q.shape[1]
    k, v, beta = (x.unflatten(1, (-1, n)) for x in (k, v, beta))  # (B, T, n, h, .)
    o, state = delta_product_scan(q, k, v, beta, leaves.get("in.g"), leaves.get("in.h0"))
    return asked(entry, o=o, state=state)
