"""Rows of TTT that stand at different places of their mini-batches."""

import torch

import core
from core.state import tensors


def test_rows_in_the_midst_of_different_mini_batches_equal_steps() -> None:
    torch.manual_seed(0)
    net = core.stack("ttt", 8, mini_batch=4, heads=2).double()
    for parameter in net.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    x, lengths = torch.randn(7, 11, 8, dtype=torch.float64), torch.tensor([3, 11, 8, 4, 1, 9, 11])
    found = []
    for mode in (None, "step"):
        given = x.clone().requires_grad_()
        y, state = net(given, lengths=lengths, mode=mode)
        again, end = net(given, state, lengths=lengths.flip(0), mode=mode)
        loss = sum(part.square().sum() for part in (y, again, *tensors(end)))
        found.append([y, again, *tensors(end), *torch.autograd.grad(loss, [given, *net.parameters()])])
    assert state[0][-1].flatten().tolist() == [3, 3, 0, 0, 1, 1, 3]
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
