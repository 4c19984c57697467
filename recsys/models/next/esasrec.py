"""eSASRec: SASRec with LiGR blocks, sampled softmax, positions from the end (RecTools, RecSys 2025).

    s <- s + sigmoid(W_1 s + c_1) * MHA(LN s);  s <- s + sigmoid(W_2 s + c_2) * FF(LN s)
    FF(x) = W_b (SiLU(W_a x) * W_c x)

The gates see the block's un-normalised input. No LayerNorm at the end. Position 0 is the last one, so that a
longer window does not move the others. Tensor names are those of MobileTeleSystems/RecTools.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recsys.models.next.attention import ahead, check_heads


class SwiGLU(nn.Module):
    """x (..., H) -> (..., H)."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.ff_linear_1 = nn.Linear(width, inner, bias=False)
        self.ff_linear_2 = nn.Linear(inner, width, bias=False)
        self.ff_linear_3 = nn.Linear(width, inner, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.ff_linear_2(self.drop(F.silu(self.ff_linear_1(x)) * self.ff_linear_3(x)))


class LiGR(nn.Module):
    """s (B, L, H) -> (B, L, H): attention and feed-forward net, both behind a gate."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.multi_head_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.layer_norm_1 = nn.LayerNorm(width)
        self.layer_norm_2 = nn.LayerNorm(width)
        self.feed_forward = SwiGLU(width, inner, dropout)
        self.gating_linear_1 = nn.Linear(width, width)
        self.gating_linear_2 = nn.Linear(width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, s: Tensor, mask: Tensor) -> Tensor:
        x = self.layer_norm_1(s)
        y = self.multi_head_attn(x, x, x, attn_mask=mask, need_weights=False)[0]
        s = s + self.gating_linear_1(s).sigmoid() * self.drop(y)
        return s + self.gating_linear_2(s).sigmoid() * self.drop(self.feed_forward(self.layer_norm_2(s)))


class Holder(nn.Module):
    """A named place for parts, so that published tensor names fit."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class ESASRec(nn.Module):
    """Items (B, L) padded on the left with 0 -> features (B, L, H); `items` counts the padding id too."""

    def __init__(
        self,
        items: int,
        hidden: int = 64,
        length: int = 50,
        blocks: int = 2,
        heads: int = 2,
        *,
        factor: int = 4,
        mask_padding: bool = False,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_heads(hidden, heads)
        self.length, self.heads, self.mask_padding = length, heads, mask_padding
        self.item_model = Holder(ids_emb=nn.Embedding(items, hidden))
        self.pos_encoding_layer = Holder(pos_emb=nn.Embedding(length, hidden))
        self.transformer_layers = Holder(
            transformer_blocks=nn.ModuleList(
                LiGR(hidden, heads, factor * hidden, dropout) for _ in range(blocks)
            )
        )
        self.drop = nn.Dropout(dropout)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_normal_(parameter)

    @property
    def table(self) -> Tensor:
        """Output table (items, H)."""
        return self.item_model.ids_emb.weight  # pyright: ignore

    def mask(self, items: Tensor) -> Tensor:
        """(B * heads, L, L) or (L, L), True where a key may not be seen."""
        length = items.shape[1]
        if not self.mask_padding:
            return ahead(items)
        # the diagonal stays open: a row of padding would have no key at all
        closed = ahead(items) | (items == 0)[:, None]
        closed = closed & ~torch.eye(length, dtype=torch.bool, device=items.device)
        return closed.repeat_interleave(self.heads, 0)

    def blocks(self, items: Tensor) -> list[Tensor]:
        """The outputs of the blocks, (B, L, H) each."""
        back = torch.arange(items.shape[1] - 1, -1, -1, device=items.device)
        s = self.drop(self.item_model.ids_emb(items) + self.pos_encoding_layer.pos_emb(back))  # pyright: ignore
        mask, outputs = self.mask(items), []
        for block in self.transformer_layers.transformer_blocks:  # pyright: ignore
            s = block(s, mask)
            outputs.append(s)
        return outputs

    def forward(self, items: Tensor) -> Tensor:
        return self.blocks(items)[-1]
