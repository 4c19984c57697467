"""Prefix softmax attention, computed by its definition."""

from torch import einsum

from core.kernels.prefix_attention import prefix_attention
from tests.golden import Entry, Leaves, reference


@reference("definition of prefix softmax attention")
def prefix(entry: Entry, leaves: Leaves) -> Leaves:
    scores = einsum("hk,bthk->bth", leaves["in.q"], leaves["in.k"])
    o, (m, u, w) = prefix_attention(scores, leaves["in.v"], chunk=8)
    return {"out.o": o, "out.m": m, "out.u": u, "out.w": w}
