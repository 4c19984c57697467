"""mLSTM functions of the xlstm and mlstm_kernels packages, (B, heads, T, width)."""

import torch

from core.kernels.mlstm_chunk import mlstm_chunkwise, mlstm_sigmoid
from tests.golden import Entry, Leaves, reference


def tokens(leaves: Leaves) -> Leaves:
    """q, k, v as (B, T, h, width), gates as (B, T, h)."""
    found = {name: leaves[f"in.{name}"].transpose(1, 2) for name in ("q", "k", "v")}
    for name in ("i", "f"):
        gate = leaves[f"in.{name}"]
        found[name] = (gate.squeeze(-1) if gate.ndim == 4 else gate).transpose(1, 2)
    return found


def given(leaves: Leaves, scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """The initial state of an entry, if it has one, times `scale` (C and n only)."""
    if "in.C0" not in leaves:
        return None
    C, n, m = leaves["in.C0"], leaves["in.n0"], leaves["in.m0"]
    return C * scale, n.reshape(C.shape[:3]) * scale, m.reshape(C.shape[:2])


@reference("recurrent_step_stabilized_simple")
def recurrent(entry: Entry, leaves: Leaves) -> Leaves:
    h, (C, n, m) = mlstm_chunkwise(**tokens(leaves), state=given(leaves, 1.0), chunk=4)
    return {"out.h": h.transpose(1, 2), "out.C": C, "out.n": n[..., None], "out.m": m[..., None, None]}


@reference("chunkwise_simple")
def chunkwise(entry: Entry, leaves: Leaves) -> Leaves:
    # the published chunk form scales the query instead of the key, so its C and n are larger by sqrt(K)
    root = leaves["in.k"].shape[-1] ** 0.5
    h, (C, n, m) = mlstm_chunkwise(**tokens(leaves), state=given(leaves, 1 / root), chunk=8)
    return {"out.h": h.transpose(1, 2), "out.C": C * root, "out.n": n * root, "out.m": m[..., None, None]}


@reference("parallel_stabilized_simple")
def parallel(entry: Entry, leaves: Leaves) -> Leaves:
    inputs = tokens(leaves)
    C, n, m = (leaves["in.q"].new_zeros(shape) for shape in state_shapes(leaves))
    return {"out.h": mlstm_chunkwise(**inputs, state=(C, n, m - torch.inf))[0].transpose(1, 2)}


def state_shapes(leaves: Leaves) -> tuple[tuple[int, ...], ...]:
    batch, heads, _, width = leaves["in.k"].shape
    return (batch, heads, width, leaves["in.v"].shape[-1]), (batch, heads, width), (batch, heads)


@reference("mlstm_siging_parallel_fw")
def sigmoid_gate(entry: Entry, leaves: Leaves) -> Leaves:
    normalise = entry.about.get("normalize", entry.args.get("normalize", True))
    return {"out.h": mlstm_sigmoid(**tokens(leaves), normalise=normalise, chunk=8)[0].transpose(1, 2)}
