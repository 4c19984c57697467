"""mLSTM functions of the xlstm and mlstm_kernels packages, (B, heads, T, width)."""

import torch

from core.kernels.mlstm_chunk import mlstm_chunkwise, mlstm_sigmoid
from tests.golden import Entry, Leaves, reference


def tokens(leaves: Leaves) -> tuple[torch.Tensor, ...]:
    """q, k, v as (B, T, h, width), gates i, f as (B, T, h)."""
    q, k, v = (leaves[f"in.{name}"].transpose(1, 2) for name in ("q", "k", "v"))
    gates = (leaves[f"in.{name}"] for name in ("i", "f"))
    i, f = ((gate.squeeze(-1) if gate.ndim == 4 else gate).transpose(1, 2) for gate in gates)
    return q, k, v, i, f


def given(leaves: Leaves, scale: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """The initial state of an entry, if it has one, times `scale` (C and n only)."""
    if "in.C0" not in leaves:
        return None
    C, n, m = leaves["in.C0"], leaves["in.n0"], leaves["in.m0"]
    return C * scale, n.reshape(C.shape[:3]) * scale, m.reshape(C.shape[:2])


@reference("recurrent_step_stabilized_simple")
def recurrent(entry: Entry, leaves: Leaves) -> Leaves:
    q, k, v, i, f = tokens(leaves)
    h, (C, n, m) = mlstm_chunkwise(q, k, v, i, f, given(leaves, 1.0), chunk=4)
    return {"out.h": h.transpose(1, 2), "out.C": C, "out.n": n[..., None], "out.m": m[..., None, None]}


@reference("chunkwise_simple")
def chunkwise(entry: Entry, leaves: Leaves) -> Leaves:
    # the published chunk form scales the query instead of the key, so its C and n are larger by sqrt(K)
    root = leaves["in.k"].shape[-1] ** 0.5
    q, k, v, i, f = tokens(leaves)
    h, (C, n, m) = mlstm_chunkwise(q, k, v, i, f, given(leaves, 1 / root), chunk=8)
    return {"out.h": h.transpose(1, 2), "out.C": C * root, "out.n": n * root, "out.m": m[..., None, None]}


@reference("parallel_stabilized_simple")
def parallel(entry: Entry, leaves: Leaves) -> Leaves:
    q, k, v, i, f = tokens(leaves)
    C, n, m = (q.new_zeros(shape) for shape in state_shapes(leaves))
    return {"out.h": mlstm_chunkwise(q, k, v, i, f, (C, n, m - torch.inf))[0].transpose(1, 2)}


def state_shapes(leaves: Leaves) -> tuple[tuple[int, ...], ...]:
    batch, heads, _, width = leaves["in.k"].shape
    return (batch, heads, width, leaves["in.v"].shape[-1]), (batch, heads, width), (batch, heads)


@reference("mlstm_siging_parallel_fw")
def sigmoid_gate(entry: Entry, leaves: Leaves) -> Leaves:
    normalise = entry.about.get("normalize", entry.args.get("normalize", True))
    q, k, v, i, f = tokens(leaves)
    return {"out.h": mlstm_sigmoid(q, k, v, i, f, normalise=normalise, chunk=8)[0].transpose(1, 2)}
