"""SASRec: self-attention over the items so far (Kang, McAuley 2018, arXiv 1808.09781).

    s_t = sqrt(H) e_{i_t} + p_t        positions 1..L from the left, 0 for padding
    s <- s + attention(q, k, v);  s <- s + W_2 relu(W_1 s);  LayerNorm after the last block

Tensor names are those of pmixer/SASRec.pytorch, so published checkpoints load as they are. Only the causal
mask is applied: padding keys take part, as there. With `norm_first` query, key and value are all normalised.
"""

import math

import torch
from torch import Tensor, nn

from recsys.models.next.attention import ahead, check_heads

EPS = 1e-8


class PointWise(nn.Module):
    """x (B, T, H) -> (B, T, H): two 1 x 1 convolutions."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, 1)
        self.conv2 = nn.Conv1d(width, width, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.conv2(self.drop(self.conv1(x.mT)).relu())).mT


class SASRec(nn.Module):
    """Items (B, L) padded on the left with 0 -> features (B, L, H); scores are products with the table."""

    def __init__(
        self,
        items: int,
        hidden: int = 64,
        length: int = 50,
        blocks: int = 2,
        heads: int = 1,
        *,
        norm_first: bool = True,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_heads(hidden, heads)
        self.items, self.length, self.norm_first = items, length, norm_first
        self.item_emb = nn.Embedding(items + 1, hidden, padding_idx=0)
        self.pos_emb = nn.Embedding(length + 1, hidden, padding_idx=0)
        self.emb_dropout = nn.Dropout(dropout)
        self.attention_layernorms = nn.ModuleList(nn.LayerNorm(hidden, EPS) for _ in range(blocks))
        self.attention_layers = nn.ModuleList(
            nn.MultiheadAttention(hidden, heads, dropout, batch_first=True) for _ in range(blocks)
        )
        self.forward_layernorms = nn.ModuleList(nn.LayerNorm(hidden, EPS) for _ in range(blocks))
        self.forward_layers = nn.ModuleList(PointWise(hidden, dropout) for _ in range(blocks))
        self.last_layernorm = nn.LayerNorm(hidden, EPS)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.ndim > 1:
                    nn.init.xavier_normal_(parameter)
            self.item_emb.weight[0] = 0
            self.pos_emb.weight[0] = 0

    @property
    def table(self) -> Tensor:
        """Output table (items + 1, H)."""
        return self.item_emb.weight

    def forward(self, items: Tensor) -> Tensor:
        width = self.item_emb.embedding_dim
        place = torch.arange(1, items.shape[1] + 1, device=items.device) * (items != 0)
        s = self.emb_dropout(self.item_emb(items) * math.sqrt(width) + self.pos_emb(place))
        mask = ahead(items)
        layers = zip(
            self.attention_layernorms,
            self.attention_layers,
            self.forward_layernorms,
            self.forward_layers,
            strict=True,
        )
        for norm, attend, norm2, mix in layers:
            if self.norm_first:
                x = norm(s)
                s = s + attend(x, x, x, attn_mask=mask, need_weights=False)[0]
                s = s + mix(norm2(s))
            else:
                s = norm(s + attend(s, s, s, attn_mask=mask, need_weights=False)[0])
                s = norm2(s + mix(s))
        return self.last_layernorm(s)
