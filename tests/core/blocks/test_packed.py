"""PackedSequence in, PackedSequence out, as torch.nn does it."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence
from torch.testing import assert_close

import core
from core.layouts.torch_nn import load_torch_nn

PEERS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("lengths", [[5, 3, 2], [2, 5, 2], [4, 4, 4]])
def test_a_packed_batch_equals_torch(name: str, directions: int, lengths: list[int]) -> None:
    theirs = PEERS[name](4, 6, 2, batch_first=True, bidirectional=directions == 2)
    ours = core.stack(name, 4, 6, layers=2, directions=directions)
    load_torch_nn(ours, theirs.state_dict())
    x = torch.randn(3, 5, 4)
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    y, state = ours(packed)
    expected, last = theirs(packed)
    assert_close(y.data, expected.data, rtol=1e-5, atol=1e-6)
    assert torch.equal(y.batch_sizes, expected.batch_sizes)
    assert torch.equal(y.sorted_indices, expected.sorted_indices)
    h = torch.stack([part[0] if name == "lstm" else part for part in state])
    assert_close(h, last[0] if name == "lstm" else last, rtol=1e-5, atol=1e-6)


def test_a_sorted_pack_without_indices_keeps_its_order() -> None:
    ours = core.stack("gru", 4, 6)
    packed = pack_sequence([torch.randn(5, 4), torch.randn(2, 4)])
    y, _ = ours(packed)
    assert y.sorted_indices is None
    assert_close(y.data[0], ours(packed.data[:1][None])[0][0, 0])


def test_gradients_reach_the_packed_data() -> None:
    ours, theirs = core.stack("lstm", 4, 6), nn.LSTM(4, 6, batch_first=True)
    load_torch_nn(ours, theirs.state_dict())
    x = torch.randn(2, 5, 4)
    found = []
    for net in (ours, theirs):
        leaf = x.clone().requires_grad_()
        y, _ = net(pack_padded_sequence(leaf, torch.tensor([5, 3]), batch_first=True))
        y.data.square().sum().backward()
        found.append(leaf.grad)
    assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
