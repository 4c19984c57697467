"""The GPU kernels on a CPU, in triton's interpreter; a process of its own, since it must be chosen first.

Run by `test_triton_twins`, all parts in one process; shapes are the smallest that cross a tile on each axis.
"""

import traceback

import torch
from torch.testing import assert_close


def close(ours, theirs, tolerance=1e-5):  # noqa: ANN001, ANN201
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=tolerance, atol=tolerance * (1 + b.abs().max().item()))


def scan_of_pairs() -> None:
    from core.kernels.block_scan.definition import block_scan_ref
    from core.kernels.block_scan.gpu import forward

    for batch, time, width in ((1, 1, 1), (2, 7, 20), (1, 66, 3)):
        a = torch.randn(batch, time, 2, 2, width) * 0.6
        x = torch.randn(time, batch, 2, width).transpose(0, 1)
        close([forward(a, x)], [block_scan_ref(a, x)])


def chunked_decay() -> None:
    from core.kernels.matrix_scan import decay_scan
    from core.kernels.matrix_scan.gpu import forward

    for batch, time, heads, key, value in ((1, 1, 1, 3, 2), (2, 70, 2, 5, 20), (1, 130, 1, 66, 66)):
        q, k = torch.randn(2, batch, time, heads, key).unbind()
        v = torch.randn(time, batch, heads, value).transpose(0, 1)
        decay = torch.nn.functional.logsigmoid(torch.randn(batch, time, heads) * 3)
        state = torch.randn(batch, heads, key, value)
        close(forward(q, k, v, decay, state), decay_scan(q, k, v, decay, state))
        if time > 1:  # resets, in the middle of a chunk and at its beginning
            decay[0, [5, 64]] = -torch.inf
            close(forward(q, k, v, decay, state), decay_scan(q, k, v, decay, state))


def linear_scan() -> None:
    from core.kernels.linear_scan import chunked as plain
    from core.kernels.linear_scan import gpu as fast

    for dtype in (torch.float32, torch.complex64):
        for batch, time, width in ((2, 1, 3), (2, 7, 40), (1, 260, 5), (0, 3, 2), (2, 0, 3)):
            a = torch.randn(batch, time, 2 * width, dtype=dtype).chunk(2, -1)[1] * 0.5
            x, h0 = torch.randn(batch, time, width, dtype=dtype), torch.randn(batch, width, dtype=dtype)
            grad = torch.randn(width, dtype=dtype).expand_as(x).conj()
            h = plain.forward(a, x, h0)
            torch.testing.assert_close(fast.forward(a, x, h0), h, rtol=1e-5, atol=1e-5)
            if time:
                theirs = plain.backward(a, h, h0, grad)
                torch.testing.assert_close(fast.backward(a, h, h0, grad), theirs, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    for part in (scan_of_pairs, chunked_decay, linear_scan):
        torch.manual_seed(0)
        try:
            part()
            print(part.__name__, "equal")
        except Exception:
            print(part.__name__, traceback.format_exc())
