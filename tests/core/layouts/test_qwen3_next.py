"""The published layout of Gated DeltaNet, there and back."""

import pytest
import torch
from torch.testing import assert_close

from core.errors import WeightsError
from core.layouts import qwen3_next
from core.units.matrix.gated_delta_net import GatedDeltaNet


def small() -> GatedDeltaNet:
    return qwen3_next.gated_delta_net(
        hidden_size=12,
        linear_num_key_heads=2,
        linear_num_value_heads=6,
        linear_key_head_dim=4,
        linear_value_head_dim=3,
    )


def test_weights_survive_the_way_there_and_back() -> None:
    unit, twin = small(), small()
    published = qwen3_next.to_published(unit)
    assert published["in_proj_qkvz.weight"].shape == (2 * 8 + 2 * 18, 12)
    assert published["conv1d.weight"].shape == (2 * 8 + 18, 1, 4)
    twin.load_state_dict(qwen3_next.from_published(published, twin))
    x = torch.randn(2, 9, 12)
    assert_close(twin(x)[0], unit(x)[0], rtol=0, atol=0)


def test_a_second_piece_continues_from_the_published_cache() -> None:
    unit, x = small().double(), torch.randn(2, 30, 12, dtype=torch.float64)
    whole, _ = unit(x)
    _, state = unit(x[:, :11])
    conv_state, recurrent_state = qwen3_next.to_published_cache(state)
    assert conv_state.shape == (2, 34, 4)
    assert recurrent_state.shape == (2, 6, 4, 3)
    rest, _ = unit(x[:, 11:], qwen3_next.from_published_cache(conv_state, recurrent_state))
    assert_close(rest, whole[:, 11:])


def test_foreign_weights_are_named() -> None:
    unit = small()
    published = qwen3_next.to_published(unit)
    with pytest.raises(WeightsError, match=r"A_log is \(5,\) in the file, \(6,\) in the model"):
        qwen3_next.from_published(published | {"A_log": torch.zeros(5)}, unit)
    del published["out_proj.weight"]
    with pytest.raises(WeightsError, match=r"out_proj\.weight is missing"):
        qwen3_next.from_published(published, unit)
