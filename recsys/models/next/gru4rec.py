"""GRU4Rec: session-parallel gated recurrence (Hidasi et al. 2016, arXiv 1511.06939; 2018, arXiv 1706.03847).

    h = GRU(input(item), h);  score_j = w_j . h + b_j

`constrained`: the input table is the output table. `embedding > 0`: a table of its own. Neither: one-hot, the
first layer's input product is a row of Wx0, and its reset gate acts before the recurrent product. Tensor
names are those of hidasib/GRU4Rec_PyTorch_Official.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from core.errors import ConfigError


class OneHotGRU(nn.Module):
    """Items (B,), h (B, H) -> (B, H): r, z = sigma(x + h W_rz), n = tanh((r h) W_h + x), (1 - z) h + z n."""

    def __init__(self, items: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.Wx0 = nn.Embedding(items, 3 * hidden)
        self.Wrz0 = nn.Parameter(torch.empty(hidden, 2 * hidden))
        self.Wh0 = nn.Parameter(torch.empty(hidden, hidden))
        self.Bh0 = nn.Parameter(torch.zeros(3 * hidden))

    def forward(self, items: Tensor, h: Tensor) -> Tensor:
        x = self.Wx0(items) + self.Bh0
        size = self.hidden
        gates = (x[:, size:] + h @ self.Wrz0).sigmoid()
        r, z = gates.split(size, 1)
        n = ((r * h) @ self.Wh0 + x[:, :size]).tanh()
        return (1 - z) * h + z * n


class GRU4Rec(nn.Module):
    """Items (B,), state: h of each layer -> features (B, H), state."""

    def __init__(
        self,
        items: int,
        layers: Sequence[int] = (100,),
        *,
        constrained: bool = True,
        embedding: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not layers or min(layers) < 1:
            raise ConfigError(f"layers are widths of at least 1, got {list(layers)}.")
        if not constrained and not embedding and len(layers) > 1:
            raise ConfigError("one-hot input knows a single layer; give an embedding for more.")
        self.items, self.sizes, self.constrained = items, tuple(layers), constrained
        self.Wy = nn.Embedding(items, layers[-1])
        self.By = nn.Embedding(items, 1)
        self.drop = nn.Dropout(dropout)
        self.one_hot = not constrained and not embedding
        width = layers[-1] if constrained else embedding
        if self.one_hot:
            self.GE = OneHotGRU(items, layers[0])
        else:
            self.G = nn.ModuleList(
                nn.GRUCell(inside, size) for inside, size in zip((width, *layers), layers, strict=False)
            )
            if not constrained:
                self.E = nn.Embedding(items, embedding)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and not name.startswith("By"):
                bound = (6 / sum(parameter.shape)) ** 0.5
                nn.init.uniform_(parameter, -bound, bound)
            else:
                nn.init.zeros_(parameter)

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """Zeros."""
        return tuple(self.Wy.weight.new_zeros(batch, size) for size in self.sizes)

    def step(self, items: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Advance one click."""
        if self.one_hot:
            h = self.GE(items, state[0])
            return self.drop(h), (h,)
        x = self.drop(self.Wy(items) if self.constrained else self.E(items))
        after = []
        for cell, h in zip(self.G, state, strict=True):
            x = cell(x, h)
            after.append(x)
            x = self.drop(x)
        return x, tuple(after)

    def forward(self, items: Tensor, begins: Tensor | None = None) -> Tensor:
        """Items (B, T) -> features (B, T, H); the state is zero at first and where `begins` (B, T)."""
        state, outputs = self.initial_state(len(items)), []
        for t in range(items.shape[1]):
            if begins is not None:
                state = tuple(h.masked_fill(begins[:, t, None], 0.0) for h in state)
            x, state = self.step(items[:, t], state)
            outputs.append(x)
        return torch.stack(outputs, 1)

    def scores(self, x: Tensor, items: Tensor | None = None) -> Tensor:
        """Features (..., H) -> scores of all items, or of these (N,)."""
        if items is None:
            return x @ self.Wy.weight.T + self.By.weight[:, 0]
        return x @ self.Wy(items).T + self.By(items)[:, 0]
