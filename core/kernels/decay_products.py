"""Inner products under a decay, inside chunks, without ever dividing by a decay.

    scores_ts = sum_k q_tk k_sk prod_{s < r <= t} a_rk      s <= t

The usual factors exp(G_t) and exp(-G_s) overflow under strong decay. Here a block of 2m tokens is split in
halves: for t in the second and s in the first, the product splits at the middle into a prefix of the second
half and a suffix of the first. Both are products of numbers in [0, 1], so nothing overflows, a decay of
exactly 0 (a reset) is as good as any other, and so are its gradients. log2(L) such levels fill the chunk.
"""

import torch
from torch import Tensor


def decayed_products(
    q: Tensor, k: Tensor, decay: Tensor, *, strict: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k (N, L, K), decay (N, L, K or 1), L a power of two -> scores, prefix, suffix, total.

    scores (N, L, L) lower triangular; prefix_t = prod_{r <= t} a_r and suffix_s = prod_{r > s} a_r, both
    like decay; total (N, 1, .) = prod a. With `strict` the read is before the update: the scores have a zero
    diagonal and carry, like the prefix, prod_{r < t} in place of prod_{r <= t}.
    """
    n, length, _ = q.shape
    prefix = (torch.ones_like(decay) if strict else decay).unsqueeze(2)  # (N, blocks, m, K)
    total = decay.unsqueeze(2)
    suffix = torch.ones_like(total)
    diagonal = q.new_zeros(n, length) if strict else (q * k).sum(-1)
    scores = diagonal[..., None, None]  # (N, blocks, m, m)
    m = 1
    while m < length:
        q_late = q.reshape(n, -1, 2, m, q.shape[-1])[:, :, 1]
        k_early = k.reshape(n, -1, 2, m, k.shape[-1])[:, :, 0]
        across = (q_late * prefix[:, 1::2]) @ (k_early * suffix[:, ::2]).transpose(-1, -2)
        upper = torch.cat([scores[:, ::2], torch.zeros_like(across)], -1)
        lower = torch.cat([across, scores[:, 1::2]], -1)
        scores = torch.cat([upper, lower], -2)
        prefix = torch.cat([prefix[:, ::2], prefix[:, 1::2] * total[:, ::2]], 2)
        suffix = torch.cat([suffix[:, ::2] * total[:, 1::2], suffix[:, 1::2]], 2)
        total = total[:, ::2] * total[:, 1::2]
        m *= 2
    return scores.squeeze(1), prefix.squeeze(1), suffix.squeeze(1), total.squeeze(1)
