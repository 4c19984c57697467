import pytest
import torch
from torch.testing import assert_close

from core.layouts.rwkv4 import RWKV4LanguageModel, from_published, to_published


def model() -> RWKV4LanguageModel:
    torch.manual_seed(0)
    return RWKV4LanguageModel(11, 6, 3, inner_size=10).double()


def test_a_text_can_be_cut_anywhere_at_any_batch() -> None:
    net, tokens = model(), torch.randint(11, (3, 9))
    whole, end = net(tokens)
    for cut in (1, 4, 8):
        head, state = net(tokens[:, :cut])
        tail, final = net(tokens[:, cut:], state)
        assert_close(torch.cat([head, tail], 1), whole)
        for a, b in zip(to_published(final), to_published(end), strict=True):
            assert_close(a, b)


def test_the_state_is_five_tensors_with_the_layers_last() -> None:
    net, tokens = model(), torch.randint(11, (2, 5))
    _, state = net(tokens)
    five = to_published(state)
    assert [tuple(part.shape) for part in five] == [(2, 6, 3)] * 5
    continued = net(tokens, from_published(five))[0]
    assert_close(continued, net(tokens, state)[0])
    with pytest.raises(ValueError, match="five tensors"):
        from_published(five[:4])


def test_names_are_the_published_ones() -> None:
    names = set(model().state_dict())
    assert {
        "rwkv.embeddings.weight",
        "rwkv.blocks.0.pre_ln.bias",
        "rwkv.ln_out.weight",
        "head.weight",
    } <= names
    assert "rwkv.blocks.1.pre_ln.bias" not in names
    assert "rwkv.blocks.2.attention.time_mix_receptance" in names
    assert "rwkv.blocks.2.feed_forward.value.weight" in names
