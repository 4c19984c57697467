"""Published Griffin layers go in and come out unchanged, under either set of names."""

import pytest
import torch
from torch.testing import assert_close

from core.blocks.griffin import ResidualBlock
from core.errors import WeightsError
from core.layouts import recurrent_gemma as layout


def layer(kind: str) -> ResidualBlock:
    temporal = (
        layout.recurrent_block(16, 2, lru_width=12, conv1d_width=3)
        if kind == "recurrent"
        else layout.attention(16, 2, 1, attention_window_size=4)
    )
    return layout.decoder_layer(temporal, 20)


@pytest.mark.parametrize("kind", ["recurrent", "attention"])
@pytest.mark.parametrize(
    "names", [layout.TRANSFORMERS, layout.RECURRENTGEMMA], ids=["transformers", "package"]
)
def test_weights_survive_the_round_trip(kind: str, names: dict[str, str]) -> None:
    unit, twin = layer(kind), layer(kind)
    twin.load_state_dict(layout.from_published(layout.to_published(unit, names), twin, names))
    x = torch.randn(2, 7, 16)
    assert_close(twin(x)[0], unit(x)[0], rtol=0, atol=0)


def test_published_names_and_shapes_are_those_of_the_checkpoint() -> None:
    published = layout.to_published(layer("recurrent"))
    assert published["temporal_block.conv_1d.weight"].shape == (12, 1, 3)
    assert published["temporal_block.rg_lru.input_gate_weight"].shape == (2, 6, 6)
    assert published["temporal_block.rg_lru.recurrent_gate_bias"].shape == (2, 6)
    assert published["temporal_block.rg_lru.recurrent_param"].shape == (12,)
    assert published["mlp_block.up_proj.weight"].shape == (10, 16)


def test_a_published_state_continues_pieces_of_any_length() -> None:
    unit = layout.recurrent_block(16, 2)
    x = torch.randn(2, 9, 16)
    whole, _ = unit(x)
    _, state = unit(x[:, :4])
    cache = layout.to_published_cache(state)
    assert cache[0].shape == (2, 16, 3)
    tail, _ = unit(x[:, 4:], layout.from_published_cache(*cache))
    assert_close(tail, whole[:, 4:])


def test_a_foreign_file_is_named() -> None:
    unit = layer("attention")
    published = layout.to_published(unit)
    published.pop("channel_pre_norm.weight")
    with pytest.raises(WeightsError, match=r"channel_pre_norm.weight: in the file or in the model"):
        layout.from_published(published, unit)
