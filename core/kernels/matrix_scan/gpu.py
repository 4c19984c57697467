"""The matrix-state recurrence with one decay per head on a GPU, forward only.

Chunks are those of `core.kernels.matrix_scan`:

    O = (P * Q) S + A V          S' = total * S + (E * K)^T V

with P the decay from the beginning of the chunk to a token, E that from a token to the end, and A the
decayed lower triangle of Q K^T. Three kernels: what each chunk adds, for all chunks at once; S from chunk to
chunk, number by number; the outputs of all chunks at once.

A sum of log decays is taken over the very tokens between two, never as a difference of two longer sums: it
may be -inf (a reset), and a difference would lose digits or be NaN.

With TRITON_INTERPRET=1 in the environment before triton is imported, the kernels run on CPU tensors.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 64
"""Tokens of a chunk: a square of them is one product on tensor cores."""
SIDE = 64
"""Key and value channels of a state that one program holds."""
READ = 32
"""Key channels that an output takes at once; more would not fit into the registers."""
CARRIED = 256
"""Numbers of a state that one program carries through all chunks."""
OPTIONS = {"num_warps": 8, "num_stages": 1}


@triton.jit
def write_chunks(  # noqa: ANN201
    k, v, g, states, totals, time, heads, keys, values, chunks,  # noqa: ANN001
    L: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """states (B h, chunks, K, V) takes what each chunk adds, totals (B h, chunks) the decay of it all."""
    row = tl.program_id(0).to(tl.int64) // chunks
    chunk = tl.program_id(0).to(tl.int64) % chunks
    b, head = row // heads, row % heads
    i = tl.program_id(1) * BK + tl.arange(0, BK)
    j = tl.program_id(2) * BV + tl.arange(0, BV)
    t = chunk * L + tl.arange(0, L)
    token = (b * time + t) * heads + head
    # the log decay of the token after t, so that its sum from t on is that until the end of the chunk
    after = t + 1 < tl.minimum(time, (chunk + 1) * L)
    until_end = tl.cumsum(tl.load(g + token + heads, mask=after, other=0.0), 0, reverse=True)
    first = tl.load(g + (b * time + chunk * L) * heads + head)
    total = tl.exp(first + tl.sum(tl.where(t == chunk * L, until_end, 0.0), 0))
    tl.store(totals + row * chunks + chunk, total)
    write = tl.load(k + token[:, None] * keys + i, mask=(t < time)[:, None] & (i < keys), other=0.0)
    value = tl.load(v + token[:, None] * values + j, mask=(t < time)[:, None] & (j < values), other=0.0)
    write = write * tl.exp(until_end)[:, None]
    added = tl.dot(tl.trans(write), value, input_precision="tf32x3")
    here = (row * chunks + chunk) * keys * values + i[:, None] * values + j
    tl.store(states + here, added, mask=(i < keys)[:, None] & (j < values))


@triton.jit
def carry_states(start, states, totals, end, size, chunks, BLOCK: tl.constexpr):  # noqa: ANN001, ANN201
    """states (B h, chunks, K V), what each chunk adds, becomes S before it; end (B h, K V) the last."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    state = tl.load(start + row * size + at, mask=inside, other=0.0)
    here = states + row * chunks * size + at
    for chunk in range(chunks):
        added = tl.load(here, mask=inside, other=0.0)
        tl.store(here, state, mask=inside)
        state = state * tl.load(totals + row * chunks + chunk) + added
        here += size
    tl.store(end + row * size + at, state, mask=inside)


@triton.jit
def read_chunks(  # noqa: ANN201
    q, k, v, g, states, o, time, heads, keys, values, chunks,  # noqa: ANN001
    L: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """o (B, T, h, V) of one chunk and one block of value channels."""
    row = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1)
    b, head = row // heads, row % heads
    j = tl.program_id(2) * BV + tl.arange(0, BV)
    at = tl.arange(0, L)
    t = chunk * L + at
    token = (b * time + t) * heads + head
    decay = tl.load(g + token, mask=t < time, other=0.0)
    # between[t, s] = sum of the log decays after s up to t
    between = tl.cumsum(tl.where(at[:, None] > at, decay[:, None], 0.0), 0)
    since_start = tl.cumsum(decay, 0)
    scores = tl.zeros((L, L), tl.float32)
    out = tl.zeros((L, BV), tl.float32)
    begin = states + (row * chunks + chunk) * keys * values
    for first in range(0, keys, BK):
        i = first + tl.arange(0, BK)
        valid = (t < time)[:, None] & (i < keys)
        query = tl.load(q + token[:, None] * keys + i, mask=valid, other=0.0)
        key = tl.load(k + token[:, None] * keys + i, mask=valid, other=0.0)
        inside = (i < keys)[:, None] & (j < values)
        state = tl.load(begin + i[:, None] * values + j, mask=inside, other=0.0)
        scores += tl.dot(query, tl.trans(key), input_precision="tf32x3")
        out += tl.dot(query * tl.exp(since_start)[:, None], state, input_precision="tf32x3")
    scores = tl.where(at[:, None] >= at, scores * tl.exp(between), 0.0)
    here = token[:, None] * values + j
    valid = (t < time)[:, None] & (j < values)
    value = tl.load(v + here, mask=valid, other=0.0)
    tl.store(o + here, out + tl.dot(scores, value, input_precision="tf32x3"), mask=valid)


def forward(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """q, k (B, T, h, K), v (B, T, h, V), log_decay (B, T, h), state (B, h, K, V) -> o, last state; float32.

    The same as `core.kernels.matrix_scan.decay_scan`, T >= 1, without gradients.
    """
    batch, time, heads, keys = k.shape
    values = v.shape[3]
    q, k, v, g, start = (part.detach().float().contiguous() for part in (q, k, v, log_decay, state))
    o, end = torch.empty_like(v), torch.empty_like(start)
    length = max(16, min(CHUNK, triton.next_power_of_2(time)))
    chunks = triton.cdiv(time, length)
    states = start.new_empty(batch * heads, chunks, keys, values)
    totals = start.new_empty(batch * heads, chunks)
    key_side, value_side, read_side = side(keys), side(values), min(READ, side(keys))
    if not batch:
        return o, end
    with torch.cuda.device_of(v):
        blocks = triton.cdiv(keys, key_side), triton.cdiv(values, value_side)
        sizes = (time, heads, keys, values, chunks)
        tiles = {"L": length, "BV": value_side, **OPTIONS}
        write: Any = write_chunks[(batch * heads * chunks, *blocks)]
        write(k, v, g, states, totals, *sizes, BK=key_side, **tiles)
        carry: Any = carry_states[(batch * heads, triton.cdiv(keys * values, CARRIED))]
        carry(start, states, totals, end, keys * values, chunks, BLOCK=CARRIED)
        read: Any = read_chunks[(batch * heads, chunks, blocks[1])]
        read(q, k, v, g, states, o, *sizes, BK=read_side, **tiles)
    return o, end


def side(width: int) -> int:
    """Width of a block: a power of two that tensor cores take."""
    return max(16, min(SIDE, triton.next_power_of_2(width)))
