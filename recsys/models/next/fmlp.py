"""FMLP-Rec: learned filters over time instead of attention (Zhou et al. 2022, arXiv 2202.13556).

    x <- LN(x + irfft(rfft(x) * W));  x <- LN(x + W_2 gelu(W_1 x))

The filter is circular, hence not causal: only the last position may be used for loss and prediction.
`filters` off gives the attention variant. Tensor names are those of RUCAIBox/FMLP-Rec.
"""

import torch
from torch import Tensor, nn

from recsys.models.next.attention import ahead

EPS = 1e-12


class FilterLayer(nn.Module):
    """x (B, L, H) -> (B, L, H): a product in the frequencies, residual, LayerNorm."""

    def __init__(self, length: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.complex_weight = nn.Parameter(0.02 * torch.randn(1, length // 2 + 1, hidden, 2))
        self.out_dropout = nn.Dropout(dropout)
        self.LayerNorm = nn.LayerNorm(hidden, EPS)

    def filtered(self, x: Tensor) -> Tensor:
        """What the filter gives, before residual and norm."""
        spectrum = torch.fft.rfft(x, dim=1, norm="ortho") * torch.view_as_complex(self.complex_weight)
        return self.out_dropout(torch.fft.irfft(spectrum, n=x.shape[1], dim=1, norm="ortho"))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.LayerNorm(self.filtered(x) + x)


class SelfAttention(nn.Module):
    """x (B, L, H) -> (B, L, H): masked attention, dense, residual, LayerNorm."""

    def __init__(self, hidden: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.attn_dropout = nn.Dropout(attention_dropout)
        self.dense = nn.Linear(hidden, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, EPS)
        self.out_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        weight = (q @ k.mT / q.shape[-1] ** 0.5 + mask).softmax(-1)
        y = (self.attn_dropout(weight) @ v).transpose(1, 2).flatten(2)
        return self.LayerNorm(self.out_dropout(self.dense(y)) + x)


class Intermediate(nn.Module):
    """x (B, L, H) -> (B, L, H): 4 H wide, GELU, residual, LayerNorm."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dense_1 = nn.Linear(hidden, 4 * hidden)
        self.dense_2 = nn.Linear(4 * hidden, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense_2(nn.functional.gelu(self.dense_1(x)))) + x)


class Layer(nn.Module):
    """Filter or attention, then the feed-forward net."""

    def __init__(self, mixer: nn.Module, hidden: int, dropout: float, filters: bool) -> None:
        super().__init__()
        self.filters = filters
        if filters:
            self.filterlayer = mixer
        else:
            self.attention = mixer
        self.intermediate = Intermediate(hidden, dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mixer = self.filterlayer if self.filters else self.attention
        return self.intermediate(mixer(x, mask))


class Encoder(nn.Module):
    """Layers one after the other; they begin as copies of each other."""

    def __init__(self, layers: list[Layer]) -> None:
        super().__init__()
        for layer in layers[1:]:
            layer.load_state_dict(layers[0].state_dict())
        self.layer = nn.ModuleList(layers)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x, mask)
        return x


class FMLPRec(nn.Module):
    """Items (B, L) padded on the left with 0 -> features (B, L, H); `items` counts the padding id too."""

    causal = False

    def __init__(
        self,
        items: int,
        hidden: int = 64,
        length: int = 50,
        layers: int = 2,
        heads: int = 2,
        *,
        filters: bool = True,
        dropout: float = 0.5,
        attention_dropout: float = 0.5,
        initial_range: float = 0.02,
    ) -> None:
        super().__init__()
        self.length = length
        self.item_embeddings = nn.Embedding(items, hidden, padding_idx=0)
        self.position_embeddings = nn.Embedding(length, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, EPS)
        self.dropout = nn.Dropout(dropout)

        def layer() -> Layer:
            mixer: nn.Module = (
                FilterLayer(length, hidden, dropout)
                if filters
                else SelfAttention(hidden, heads, dropout, attention_dropout)
            )
            return Layer(mixer, hidden, dropout, filters)

        self.apply(lambda module: start(module, initial_range))
        self.item_encoder = Encoder([layer().apply(lambda m: start(m, initial_range)) for _ in range(layers)])

    @property
    def table(self) -> Tensor:
        """Output table (items, H)."""
        return self.item_embeddings.weight

    def forward(self, items: Tensor) -> Tensor:
        length = items.shape[1]
        place = torch.arange(length, device=items.device)
        x = self.item_embeddings(items) + self.position_embeddings(place)
        x = self.dropout(self.LayerNorm(x))
        seen = (items > 0)[:, None, None] & ~ahead(items)
        return self.item_encoder(x, torch.where(seen, 0.0, -10000.0))


def start(module: nn.Module, scale: float) -> None:
    """The published initialisation."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, 0.0, scale)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
