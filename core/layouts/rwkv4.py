"""RWKV-4 language model in the published layout (`RwkvForCausalLM`; Peng et al. 2023, arXiv 2305.13048).

    x = pre_ln(embedding)                                block 0 only
    x = x + attention(ln1 x),  x = x + feed_forward(ln2 x)
    logits = head(ln_out x)

The state dict has the published names and shapes, with weights as the files hold them: the published code
divides `attention.output` and `feed_forward.value` of block b by 2^(b // 6) in its first evaluation call,
against overflow in half precision; here sums stay in float32 and nothing is divided.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.units.matrix.rwkv4 import RWKV4, RWKV4ChannelMix

BlockState = tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]
"""Previous token of the channel mix (B, H), state of the time mix."""
State = tuple[BlockState, ...]


class Block(nn.Module):
    """x (B, T, H), state -> y (B, T, H), state."""

    def __init__(
        self, hidden_size: int, attention_size: int | None, inner_size: int | None, eps: float, first: bool
    ) -> None:
        super().__init__()
        if first:
            self.pre_ln = nn.LayerNorm(hidden_size, eps=eps)
        self.ln1 = nn.LayerNorm(hidden_size, eps=eps)
        self.ln2 = nn.LayerNorm(hidden_size, eps=eps)
        self.attention = RWKV4(hidden_size, hidden_size, inner_size=attention_size)
        self.feed_forward = RWKV4ChannelMix(hidden_size, inner_size)
        self.first = first

    def forward(self, x: Tensor, state: BlockState | None = None) -> tuple[Tensor, BlockState]:
        channel, time = (None, None) if state is None else state
        x = self.pre_ln(x) if self.first else x
        mixed, time = self.attention(self.ln1(x), time)
        x = x + mixed
        mixed, channel = self.feed_forward(self.ln2(x), channel)
        return x + mixed, (channel, time)


class Backbone(nn.Module):
    """Token numbers (B, T), state -> normed hidden (B, T, H), state."""

    def __init__(
        self,
        vocabulary: int,
        hidden_size: int,
        layers: int,
        attention_size: int | None = None,
        inner_size: int | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(vocabulary, hidden_size)
        self.blocks = nn.ModuleList(
            Block(hidden_size, attention_size, inner_size, eps, first=index == 0) for index in range(layers)
        )
        self.ln_out = nn.LayerNorm(hidden_size)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        x = self.embeddings(tokens)
        states = [None] * len(self.blocks) if state is None else state
        ends = []
        for block, start in zip(self.blocks, states, strict=True):
            x, end = block(x, start)
            ends.append(end)
        return self.ln_out(x), tuple(ends)


class RWKV4LanguageModel(nn.Module):
    """Token numbers (B, T), state -> logits (B, T, V), state; any piece of a text continues another.

    Args:
        attention_size: width of the time mix; default H.
        inner_size: width of the channel mix; default 4 H.
        eps: of the norms of the blocks; that of the last norm is 1e-5 in every published model.
    """

    def __init__(
        self,
        vocabulary: int,
        hidden_size: int,
        layers: int,
        attention_size: int | None = None,
        inner_size: int | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.rwkv = Backbone(vocabulary, hidden_size, layers, attention_size, inner_size, eps)
        self.head = nn.Linear(hidden_size, vocabulary, bias=False)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        hidden, end = self.rwkv(tokens, state)
        return self.head(hidden), end


def to_published(state: State) -> list[Tensor]:
    """The five tensors (B, width, layers): ffn x_prev, att x_prev, numerator, denominator, maximum."""
    parts = zip(*((channel, *time) for channel, time in state), strict=True)
    return [torch.stack(part, -1) for part in parts]


def from_published(tensors: Sequence[Tensor]) -> State:
    """Our state from the five tensors of `to_published`.

    Raises:
        ValueError: not five tensors of the same number of layers.
    """
    if len(tensors) != 5 or len({part.shape[-1] for part in tensors}) != 1:
        found = [tuple(part.shape) for part in tensors]
        raise ValueError(f"an RWKV-4 state is five tensors (B, width, layers), got {found}")
    layers = zip(*(part.unbind(-1) for part in tensors), strict=True)
    return tuple((channel, (x, a, b, p)) for channel, x, a, b, p in layers)
