"""gSASRec: SASRec trained with the generalised BCE (Petrov, Macdonald 2023, arXiv 2308.07192).

    x' = LN(x);  y = x' + attention(q = W_q x', k = W_k x, v = W_v x);  z = LN(y);  x <- z + W_2 relu(W_1 z)

As in asash/gSASRec-pytorch: keys and values are not normalised, the residual adds what is, there is no output
projection, the padding id is items + 1, the output table may be one of its own.
"""

import torch
from torch import Tensor, nn

from recsys.models.next.attention import ahead, check_heads


class Attention(nn.Module):
    """Queries (B, L, H), keys (B, L, H) -> (B, L, H) and weights (B, heads, L, L)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query_proj = nn.Linear(width, width)
        self.key_proj = nn.Linear(width, width)
        self.val_proj = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        q = self.query_proj(queries).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k = self.key_proj(keys).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        v = self.val_proj(keys).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        weight = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(ahead(queries), float("-inf"))
        # Padding is recognised by rows of zeros: as a key it is closed, as a query its row counts nothing.
        empty = (keys == 0).all(-1)
        weight = weight.masked_fill(empty[:, None, None], -(2.0**32) + 1)
        weight = weight.softmax(-1) * ~empty[:, None, :, None]
        return (self.drop(weight) @ v).transpose(1, 2).flatten(2), weight


class Block(nn.Module):
    """x (B, L, H) -> (B, L, H)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.first_norm = nn.LayerNorm(width)
        self.second_norm = nn.LayerNorm(width)
        self.multihead_attention = Attention(width, heads, dropout)
        self.dense1 = nn.Linear(width, width)
        self.dense2 = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
        normed = self.first_norm(x)
        y, weight = self.multihead_attention(normed, x)
        z = self.second_norm(normed + y)
        z = z + self.drop(self.dense2(self.drop(self.dense1(z).relu())))
        return z * used[..., None], weight


class GSASRec(nn.Module):
    """Items (B, L) padded on the left with items + 1 -> features (B, L, H)."""

    def __init__(
        self,
        items: int,
        hidden: int = 128,
        length: int = 200,
        blocks: int = 3,
        heads: int = 1,
        *,
        tied: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_heads(hidden, heads)
        self.items, self.length, self.tied = items, length, tied
        self.item_embedding = nn.Embedding(items + 2, hidden, padding_idx=items + 1)
        self.position_embedding = nn.Embedding(length, hidden)
        self.transformer_blocks = nn.ModuleList(Block(hidden, heads, dropout) for _ in range(blocks))
        self.seq_norm = nn.LayerNorm(hidden)
        self.drop = nn.Dropout(dropout)
        if not tied:
            self.output_embedding = nn.Embedding(items + 2, hidden)

    @property
    def table(self) -> Tensor:
        """Output table (items + 2, H)."""
        return self.item_embedding.weight if self.tied else self.output_embedding.weight

    def attend(self, items: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features and the attention weights of each block."""
        used = (items != self.items + 1).to(self.item_embedding.weight)
        place = torch.arange(items.shape[1], device=items.device)
        x = self.item_embedding(items) + self.position_embedding(place)
        x, weights = self.drop(x) * used[..., None], []
        for block in self.transformer_blocks:
            x, weight = block(x, used)
            weights.append(weight)
        return self.seq_norm(x), weights

    def forward(self, items: Tensor) -> Tensor:
        return self.attend(items)[0]
