"""Inner products under a decay, inside chunks, without ever dividing by a decay.

    scores_ts = sum_k q_tk k_sk prod_{s < r <= t} a_rk      s <= t

The usual factors exp(G_t) and exp(-G_s) overflow under strong decay. Here a block of 2m tokens is split in
halves: for t in the second and s in the first, the product splits at the middle into a prefix of the second
half and a suffix of the first. Both are products of numbers in [0, 1], so nothing overflows, a decay of
exactly 0 (a reset) is as good as any other, and so are its gradients. log2(L) such levels fill the chunk.
"""

from typing import Any

import torch
from torch import Tensor

from core.kernels.choice import beyond_operators, recording

Products = tuple[Tensor, Tensor, Tensor, Tensor]


def decayed_products(q: Tensor, k: Tensor, decay: Tensor, *, strict: bool = False) -> Products:
    """q, k (N, L, K), decay (N, L, K), L a power of two -> scores, prefix, suffix, total.

    scores (N, L, L) lower triangular; prefix_t = prod_{r <= t} a_r and suffix_s = prod_{r > s} a_r, both
    like decay; total (N, 1, K) = prod a. With `strict` the read is before the update: the scores have a zero
    diagonal and carry, like the prefix, prod_{r < t} in place of prod_{r <= t}.
    """
    if recording() or beyond_operators(q, k, decay):
        return by_halving(q, k, decay, strict)
    return DecayedProducts.apply(q.contiguous(), k.contiguous(), decay.contiguous(), strict)  # pyright: ignore[reportReturnType]


def by_halving(q: Tensor, k: Tensor, decay: Tensor, strict: bool) -> Products:
    """The same, level by level in operators that any derivative can pass."""
    prefix = (torch.ones_like(decay) if strict else decay).unsqueeze(2)  # (N, blocks, m, K)
    total = decay.unsqueeze(2)
    suffix = torch.ones_like(total)
    diagonal = torch.zeros_like(q) if strict else q * k
    scores = diagonal.sum(-1)[..., None, None]  # (N, blocks, m, m)
    for m in levels(q):
        across = (late(q, m) * prefix[:, 1::2]) @ (early(k, m) * suffix[:, ::2]).mT
        upper = torch.cat([scores[:, ::2], torch.zeros_like(across)], -1)
        lower = torch.cat([across, scores[:, 1::2]], -1)
        scores = torch.cat([upper, lower], -2)
        prefix = torch.cat([prefix[:, ::2], prefix[:, 1::2] * total[:, ::2]], 2)
        suffix = torch.cat([suffix[:, ::2] * total[:, 1::2], suffix[:, 1::2]], 2)
        total = total[:, ::2] * total[:, 1::2]
    return scores.squeeze(1), prefix.squeeze(1), suffix.squeeze(1), total.squeeze(1)


def levels(x: Tensor) -> list[int]:
    """Half widths 1, 2, 4, .. of the blocks of x (N, L, K)."""
    return [1 << level for level in range(x.shape[1].bit_length() - 1)]


def late(x: Tensor, m: int) -> Tensor:
    """Second halves of the blocks of 2m tokens: (N, L, K) -> a view (N, blocks, m, K)."""
    return x.view(x.shape[0], x.shape[1] // (2 * m), 2, m, x.shape[-1])[:, :, 1]


def early(x: Tensor, m: int) -> Tensor:
    """First halves of the blocks of 2m tokens."""
    return x.view(x.shape[0], x.shape[1] // (2 * m), 2, m, x.shape[-1])[:, :, 0]


def across(scores: Tensor, m: int) -> Tensor:
    """The scores of second against first halves: (N, L, L) -> a view (N, blocks, m, m)."""
    n, length, _ = scores.shape
    return scores.as_strided(
        (n, length // (2 * m), m, m),
        (length * length, 2 * m * (length + 1), length, 1),
        scores.storage_offset() + m * length,
    )


class DecayedProducts(torch.autograd.Function):
    """The levels in place, and their adjoints written out: a third of the memory traffic of `by_halving`."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, decay: Tensor, strict: bool) -> Products:
        prefix = torch.ones_like(decay) if strict else decay.clone()
        suffix = torch.ones_like(decay)
        total = decay.unsqueeze(2)
        scores = q.new_zeros(*q.shape[:2], q.shape[1])
        if not strict:
            scores.diagonal(dim1=1, dim2=2).copy_((q * k).sum(-1))
        kept = []
        for m in levels(q):
            after, before = late(prefix, m), early(suffix, m)
            kept += [after.clone(), before.clone(), total]
            across(scores, m).copy_((late(q, m) * after) @ (early(k, m) * before).mT)
            after.mul_(total[:, ::2])
            before.mul_(total[:, 1::2])
            total = total[:, ::2] * total[:, 1::2]
        ctx.save_for_backward(q, k, decay, *kept)
        ctx.strict = strict
        return scores, prefix, suffix, total.squeeze(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, decay, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody asks for second derivatives
            outputs = by_halving(q, k, decay, ctx.strict)
            wanted = [x for x, needed in zip((q, k, decay), ctx.needs_input_grad, strict=False) if needed]
            found = iter(torch.autograd.grad(outputs, wanted, grads, create_graph=True))
            return *(next(found) if needed else None for needed in ctx.needs_input_grad[:3]), None
        to_scores = grads[0].contiguous()
        to_prefix, to_suffix, to_total = (
            grad.clone(memory_format=torch.contiguous_format) for grad in grads[1:]
        )
        dq, dk = torch.zeros_like(q), torch.zeros_like(k)
        to_total = to_total.unsqueeze(1)
        for m in reversed(levels(q)):
            after, before, total = kept[-3:]
            del kept[-3:]
            block = across(to_scores, m)
            to_after, to_before = late(to_prefix, m), early(to_suffix, m)
            # total' = first * second, prefix' = prefix * first, suffix' = suffix * second
            halves = torch.empty_like(total)
            halves[:, ::2] = to_total * total[:, 1::2] + (to_after * after).sum(2, keepdim=True)
            halves[:, 1::2] = to_total * total[:, ::2] + (to_before * before).sum(2, keepdim=True)
            to_total = halves
            to_reads = block @ (early(k, m) * before)
            to_writes = block.mT @ (late(q, m) * after)
            late(dq, m).addcmul_(to_reads, after)
            early(dk, m).addcmul_(to_writes, before)
            to_after.mul_(total[:, ::2]).addcmul_(to_reads, late(q, m))
            to_before.mul_(total[:, 1::2]).addcmul_(to_writes, early(k, m))
        to_decay = to_total.squeeze(2)
        if not ctx.strict:
            diagonal = to_scores.diagonal(dim1=1, dim2=2).unsqueeze(-1)
            dq.addcmul_(diagonal, k)
            dk.addcmul_(diagonal, q)
            to_decay = to_decay + to_prefix
        return dq, dk, to_decay, None
