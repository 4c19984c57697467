"""One shell around every block: a table, a block that reads the sequence, scores by products with the table.

    sasrec  esasrec  gsasrec  fmlp  gru4rec    the published blocks (recsys/models/next)
    <unit>                                      embeddings, a unit of core with its residual, gated FF

A unit answers a click with one `step` in constant memory, where attention reads its window again.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import registry
from core.errors import ConfigError
from recsys.config import NextConfig
from recsys.models.next.esasrec import ESASRec, SwiGLU
from recsys.models.next.fmlp import FMLPRec
from recsys.models.next.gru4rec import GRU4Rec
from recsys.models.next.gsasrec import GSASRec
from recsys.models.next.sasrec import SASRec

BLOCKS = ("sasrec", "esasrec", "gsasrec", "fmlp", "gru4rec")


class NextItem(nn.Module):
    """Items (B, L) padded on the left with 0 -> features (B, L, H); `scores` ranks items 1..n."""

    def __init__(self, config: NextConfig, items: int) -> None:
        super().__init__()
        self.config, self.items = config, items
        width, length, drop = config.hidden, config.length, config.dropout
        self.causal = config.block != "fmlp"
        self.block: Any
        if config.block == "sasrec":
            self.block = SASRec(items, width, length, config.layers, config.heads, dropout=drop)
        elif config.block == "esasrec":
            self.block = ESASRec(items + 1, width, length, config.layers, config.heads, dropout=drop)
        elif config.block == "gsasrec":
            self.block = GSASRec(items, width, length, config.layers, config.heads, tied=True, dropout=drop)
        elif config.block == "fmlp":
            self.block = FMLPRec(
                items + 1, width, length, config.layers, dropout=drop, attention_dropout=drop
            )
        elif config.block == "gru4rec":
            self.block = GRU4Rec(items + 1, (width,) * config.layers, dropout=drop)
        else:
            self.block = Mixer(config, items)

    def forward(self, items: Tensor) -> Tensor:
        if self.config.block == "gsasrec":
            items = torch.where(items == 0, self.items + 1, items)
        return self.block(items)

    @property
    def table(self) -> Tensor:
        """(items + 1, H), row 0 is padding."""
        if self.config.block == "gru4rec":
            return self.block.Wy.weight
        return self.block.table[: self.items + 1]

    def scores(self, features: Tensor, items: Tensor | None = None) -> Tensor:
        """Features (..., H) -> scores of all items (..., n + 1), or of these (N,)."""
        table = self.table if items is None else F.embedding(items, self.table)
        scores = features @ table.T
        if self.config.block == "gru4rec":
            bias = self.block.By.weight[:, 0]
            scores = scores + (bias if items is None else bias[items])
        return scores


class Mixer(nn.Module):
    """A unit of core as the mixer: s <- s + unit(LN s), s <- s + FF(LN s), LN at the end."""

    def __init__(self, config: NextConfig, items: int) -> None:
        super().__init__()
        width = config.hidden
        try:
            registry.find(config.block)
        except ConfigError as error:
            raise ConfigError(
                f"no block {config.block!r}: {', '.join(BLOCKS)}, or a unit. {error}"
            ) from error
        self.embedding = nn.Embedding(items + 1, width, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.enter = nn.LayerNorm(width)
        self.drop = nn.Dropout(config.dropout)
        self.units = nn.ModuleList(registry.build(config.block, width, width) for _ in range(config.layers))
        sizes = [int(unit.output_size) for unit in self.units]  # pyright: ignore[reportArgumentType]
        self.out = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * config.layers))
        self.mixes = nn.ModuleList(SwiGLU(width, 2 * width, config.dropout) for _ in range(config.layers))
        self.leave = nn.LayerNorm(width)

    @property
    def table(self) -> Tensor:
        return self.embedding.weight

    def forward(self, items: Tensor) -> Tensor:
        # Padding stands on the left: rows are moved so that it never enters the state, and moved back.
        length = items.shape[1]
        shift = (items == 0).sum(1, keepdim=True)
        place = (torch.arange(length, device=items.device) + shift) % length
        s = self.drop(self.enter(self.embedding(items.gather(1, place))))
        for layer, unit in enumerate(self.units):
            y, _ = unit(self.norms[2 * layer](s))
            s = s + self.drop(self.out[layer](y))
            s = s + self.drop(self.mixes[layer](self.norms[2 * layer + 1](s)))
        back = (torch.arange(length, device=items.device) - shift) % length
        return self.leave(s).gather(1, back[..., None].expand_as(s))

    def initial_state(self, batch: int) -> tuple[Any, ...]:
        """State of sequences that have not begun."""
        like = self.embedding.weight.new_zeros(batch, self.embedding.embedding_dim)
        return tuple(unit.initial_state(like) for unit in self.units)  # pyright: ignore[reportCallIssue]

    def step(self, items: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        """Advance one click: items (B,) -> features (B, H)."""
        s, after = self.enter(self.embedding(items)), []
        for layer, unit in enumerate(self.units):
            y, inner = unit.step(self.norms[2 * layer](s), state[layer])  # pyright: ignore[reportCallIssue]
            after.append(inner)
            s = s + self.out[layer](y)
            s = s + self.mixes[layer](self.norms[2 * layer + 1](s))
        return self.leave(s), tuple(after)
