"""One shell around every block: a table, a block that reads the sequence, scores by products with the table.

    sasrec  esasrec  gsasrec  fmlp  gru4rec  hstu    the published blocks (recsys/models/next)
    <unit>                                            embeddings, a unit of core with its residual, gated FF

A unit answers a click with one `step` in constant memory, where attention reads its window again.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core import registry
from core.errors import ConfigError
from core.training.sharded import ShardedTable
from recsys.config import NextConfig
from recsys.models.next.attention import check_heads
from recsys.models.next.esasrec import ESASRec, SwiGLU
from recsys.models.next.fmlp import FMLPRec
from recsys.models.next.gru4rec import GRU4Rec
from recsys.models.next.gsasrec import GSASRec
from recsys.models.next.hstu import HSTU
from recsys.models.next.sasrec import SASRec

BLOCKS = ("sasrec", "esasrec", "gsasrec", "fmlp", "gru4rec", "hstu")
TABLES: dict[str, str | None] = {
    "sasrec": "item_emb",
    "esasrec": "item_model.ids_emb",
    "gsasrec": "item_embedding",
    "fmlp": "item_embeddings",
    "gru4rec": None,  # has a bias an item beside it
}
"""Where a block keeps its item table; others name it `embedding`."""
SHARPNESS = 0.05
"""Temperature of HSTU's cosine scores."""


class NextItem(nn.Module):
    """Items (B, L) padded on the left with 0 -> features (B, L, H); `scores` ranks items 1..n.

    `timed` models also read the times of the events and of the ones that follow, (B, L) seconds each.
    """

    def __init__(self, config: NextConfig, items: int, timed: bool = False) -> None:
        super().__init__()
        self.config, self.items = config, items
        self.timed = timed and config.block == "hstu"
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
        elif config.block == "hstu":
            self.block = Timed(config, items, self.timed)
        else:
            self.block = Mixer(config, items)
        for module in self.modules():
            if isinstance(module, nn.Embedding) and module.num_embeddings > items:
                module.sparse = config.sparse

    def forward(
        self,
        items: Tensor,
        time: Tensor | None = None,
        following: Tensor | None = None,
        begins: Tensor | None = None,
    ) -> Tensor:
        if self.config.block == "hstu":
            return self.block(items, time, following)
        if begins is not None:
            return self.block(items, begins)
        if self.config.block == "gsasrec":
            items = torch.where(items == 0, self.items + 1, items)
        return self.block(items)

    @property
    def held(self) -> nn.Module | None:
        """The module of the item table, where the block has one that can be dealt out."""
        name = TABLES.get(self.config.block, "embedding")
        return None if name is None else self.block.get_submodule(name)

    @property
    def table(self) -> Tensor:
        """(items + 1, H), row 0 is padding; of a table that is dealt out, this process's rows."""
        if isinstance(self.held, ShardedTable):
            return self.held.weight
        if self.config.block == "gru4rec":
            return self.block.Wy.weight
        return self.block.table[: self.items + 1]

    def output(self, items: Tensor) -> tuple[Tensor, Tensor | float]:
        """Rows (N, H) that features are multiplied with for these items (N,), and what is added (N,)."""
        sparse = self.config.sparse
        if self.config.block == "gru4rec":
            rows = F.embedding(items, self.block.Wy.weight, sparse=sparse)
            return rows, F.embedding(items, self.block.By.weight, sparse=sparse)[..., 0]
        held = self.held
        if isinstance(held, ShardedTable):
            return self.compared(held(items)), 0.0
        return self.compared(F.embedding(items, self.block.table, sparse=sparse)), 0.0

    def compared(self, rows: Tensor) -> Tensor:
        """Rows (N, H) of the table as features are multiplied with them."""
        if self.config.block != "hstu":
            return rows
        return F.normalize(rows, dim=-1, eps=1e-6) / SHARPNESS

    def scores(self, features: Tensor, items: Tensor | None = None) -> Tensor:
        """Features (..., H) -> scores of all items (..., n + 1), or of these (N,)."""
        items = torch.arange(self.items + 1, device=features.device) if items is None else items
        rows, more = self.output(items)
        return features @ rows.T + more

    def score_of(self, features: Tensor, items: Tensor) -> Tensor:
        """Score (N,) of one item (N,) for each row of features (N, H)."""
        rows, more = self.output(items)
        return (features * rows).sum(-1) + more


def moved_left(items: Tensor) -> tuple[Tensor, Tensor]:
    """Where the entries of left-padded rows (B, L) lie once padding stands on the right, and the way back."""
    length = items.shape[1]
    shift = (items == 0).sum(1, keepdim=True)
    place = torch.arange(length, device=items.device)
    return (place + shift) % length, (place - shift) % length


class Timed(nn.Module):
    """HSTU in the shell: embeddings, layers, unit-length outputs."""

    def __init__(self, config: NextConfig, items: int, timed: bool) -> None:
        super().__init__()
        width = config.hidden
        check_heads(width, config.heads)
        self.embedding = nn.Embedding(items + 1, width, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.drop = nn.Dropout(config.dropout)
        self.net = HSTU(
            width,
            config.heads,
            width // config.heads,
            width // config.heads,
            config.layers,
            config.length,
            128 if timed else None,
            dropout=config.dropout,
        )

    @property
    def table(self) -> Tensor:
        return self.embedding.weight

    def forward(self, items: Tensor, time: Tensor | None, following: Tensor | None) -> Tensor:
        there, back = moved_left(items)
        time = torch.zeros_like(items) if time is None else time.gather(1, there)
        following = time if following is None else following.gather(1, there)
        x = self.drop(self.embedding(items.gather(1, there)))
        x = self.net(x, (items > 0).sum(1), time, following)
        return F.normalize(x, dim=-1, eps=1e-6).gather(1, back[..., None].expand_as(x))


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
        there, back = moved_left(items)
        s = self.drop(self.enter(self.embedding(items.gather(1, there))))
        for layer, unit in enumerate(self.units):
            y, _ = unit(self.norms[2 * layer](s))
            s = s + self.drop(self.out[layer](y))
            s = s + self.drop(self.mixes[layer](self.norms[2 * layer + 1](s)))
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
