"""Generation over steps, and pooling of what a stack gives."""

import pytest
import torch
from torch import Tensor, nn

import core
from core.errors import ConfigError


class Letters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.net, self.out = nn.Embedding(7, 8), core.stack("gru", 8), nn.Linear(8, 7)

    def step(self, tokens: Tensor, state: object = None) -> tuple[Tensor, object]:
        y, state = self.net.step(self.into(tokens), state)
        return self.out(y), state


def test_the_likeliest_tokens_are_those_of_the_whole_sequence() -> None:
    model, prompt = Letters(), torch.tensor([[1, 2, 3], [4, 5, 6]])
    drawn, _ = core.generate(model, prompt, 5, temperature=0)
    whole = torch.cat([prompt, drawn], 1)
    logits = model.out(model.net(model.into(whole))[0])
    assert torch.equal(logits[:, 2:-1].argmax(-1), drawn)


def test_generation_goes_on_from_its_state() -> None:
    model, prompt = Letters(), torch.tensor([[1, 2, 3]])
    whole, _ = core.generate(model, prompt, 6, generator=torch.Generator().manual_seed(1))
    chance = torch.Generator().manual_seed(1)
    head, state = core.generate(model, prompt, 2, generator=chance)
    tail, _ = core.generate(model, head[:, -1:], 4, state=state, generator=chance)
    assert torch.equal(torch.cat([head, tail], 1), whole)


def test_top_k_draws_among_the_likeliest_only() -> None:
    model = Letters()
    greedy, _ = core.generate(model, torch.tensor([[1]]), 8, temperature=0)
    drawn, _ = core.generate(model, torch.tensor([[1]]), 8, temperature=5.0, top_k=1)
    assert torch.equal(greedy, drawn)


@pytest.mark.parametrize("options", [{"temperature": -1}, {"top_k": 0}, {"count": -1}])
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="temperature >= 0"):
        core.generate(Letters(), torch.tensor([[1]]), **({"count": 2} | options))
    with pytest.raises(ValueError, match="a prompt is"):
        core.generate(Letters(), torch.zeros(1, 0, dtype=torch.long), 2)


def test_pooling_sees_valid_tokens_only() -> None:
    y = torch.tensor([[[1.0], [3.0], [torch.nan]], [[2.0], [torch.inf], [5.0]], [[7.0], [7.0], [7.0]]])
    lengths = torch.tensor([2, 1, 0])
    assert core.blocks.pool(y, lengths).flatten().tolist() == [2, 2, 0]
    assert core.blocks.pool(y, lengths, "last").flatten().tolist() == [3, 2, 0]
    assert core.blocks.pool(y, lengths, "max").flatten().tolist() == [3, 2, 0]
    assert core.blocks.pool(y[2:], how="mean").item() == 7
    with pytest.raises(ConfigError, match="mean, last, max"):
        core.blocks.pool(y, lengths, "sum")
    with pytest.raises(ValueError, match="lengths in"):
        core.blocks.pool(y, torch.tensor([4, 1, 1]))
