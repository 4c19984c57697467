"""TTT-Linear: the bare inner model that learns by mini-batches."""

from torch import Tensor

from core.kernels.ttt_scan import EPS, Learned, ttt_scan
from tests.core.golden_adapters.linear_rnn_matrix import asked, scale
from tests.golden import Entry, Leaves, reference


@reference("chunk_ttt_linear_ref")
def ttt_linear(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    """Sequences (B, T, h, D); the step belongs to the token that reads, and LN(o) is added to o."""
    q, k, v = (leaves[f"in.{name}"].transpose(1, 2) for name in "qkv")  # (B, h, T, D)
    gain, offset = leaves["in.w"], leaves["in.b"]
    eta = leaves["in.eta"].squeeze(-1).mT
    h0, hb0 = leaves["in.h0"], leaves["in.hb0"].squeeze(2)
    size = entry.about["mini_batch_size"]
    assert q.shape[2] % size == 0, "the reference wants whole mini-batches"
    state = Learned(h0, hb0, h0.new_zeros(h0.shape), hb0.new_zeros(hb0.shape))
    o, state = ttt_scan(
        q * scale(entry, leaves), k, v, eta, eta.new_ones(eta.shape), gain, offset, state, size
    )
    middle = o - o.mean(-1, keepdim=True)
    normed = middle / (middle.square().mean(-1, keepdim=True) + EPS).sqrt()
    o = o + normed * gain[:, None] + offset[:, None]
    return asked(entry, o=o.transpose(1, 2), h=state.weight, hb=state.bias[:, :, None])
