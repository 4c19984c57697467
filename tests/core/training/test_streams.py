"""Pieces of long sequences: nothing is lost, nothing is seen twice, and states go on."""

import numpy as np
import pytest
import torch

import core
from core.errors import ConfigError
from core.training import pieces


@pytest.mark.parametrize(("count", "rows", "time"), [(41, 4, 5), (100, 3, 7), (9, 8, 4), (2, 1, 1)])
def test_streams_go_on_and_each_token_has_its_follower(count: int, rows: int, time: int) -> None:
    data = torch.arange(count)
    found = list(pieces(data, rows, time))
    x, following = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    assert torch.equal(x.flatten(), data[: x.numel()])
    assert torch.equal(following, x + 1)
    assert count - 1 - x.numel() < rows
    assert all(part.shape[1] == time for part, _ in found[:-1])


def test_vectors_and_arrays_are_cut_the_same() -> None:
    data = np.random.default_rng(0).normal(size=(30, 2))
    for x, following in pieces(data, 2, 6):
        assert x.shape == following.shape
        assert x.shape[2:] == (2,)


def test_a_model_over_pieces_is_the_model_over_the_streams() -> None:
    unit = core.build("gru", 3).double()
    data = torch.randn(33, 3, dtype=torch.float64)
    outputs, state = [], None
    for x, _ in pieces(data, 4, 3):
        y, state = unit(x, core.state.detach(state))
        outputs.append(y)
    torch.testing.assert_close(torch.cat(outputs, 1), unit(data[:32].view(4, 8, 3))[0])


@pytest.mark.parametrize(("count", "rows", "time"), [(5, 0, 3), (5, 2, 0), (4, 4, 2), (0, 1, 1)])
def test_what_cannot_be_cut_is_refused_at_once(count: int, rows: int, time: int) -> None:
    with pytest.raises(ConfigError, match=r"pieces take|streams want"):
        pieces(torch.zeros(count), rows, time)
