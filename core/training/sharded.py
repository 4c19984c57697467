"""A table that is larger than one machine: each process holds some of its rows.

    rank r of R holds rows [r n / R, (r + 1) n / R)
    forward    everybody's indices go to everybody, each looks up its own rows, the sum goes back
    backward   everybody's gradients go to everybody, each keeps what belongs to its rows

The table stays out of what is shared by all processes: its gradients are whole already, the norm for clipping
is summed over the shards, and `gathered` puts the rows together for weights and exports. One process is the
same code with all rows. All processes must look up at the same moments, with batches of one size. The one
training loop knows these tables: nothing but the model and a validation of all processes is asked for.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.errors import ConfigError
from core.training.batches import mix
from core.training.distributed import Place

BLOCK = 4096
"""Rows that are drawn by one generator."""


class ShardedTable(nn.Module):
    """Indices (...) -> rows (..., D) of a table (N, D) of which this process holds a part.

    Args:
        start: the whole table, of which this process takes its rows; None: zeros.
        padding: a row that never learns.
    """

    def __init__(
        self, rows: int, width: int, place: Place, start: Tensor | None = None, padding: int | None = None
    ) -> None:
        super().__init__()
        if rows < place.world:
            raise ConfigError(f"{rows} rows cannot be shared by {place.world} processes.")
        self.rows, self.embedding_dim, self.place, self.padding = rows, width, place, padding
        self.first, self.last = edges(rows, place.rank, place.world)
        own = torch.zeros(self.last - self.first, width) if start is None else start[self.first : self.last]
        self.weight = nn.Parameter(own.clone())

    def forward(self, indices: Tensor) -> Tensor:
        flat = indices.reshape(-1)
        found: Any = Lookup.apply(self.weight, flat, self.first, self.place, self.padding)
        return found.reshape(*indices.shape, -1)

    def gathered(self) -> Tensor:
        """The whole table (N, D), everywhere; every process must ask."""
        parts = self.place.gather(self.weight.detach().cpu())
        return torch.cat(parts)


class Lookup(torch.autograd.Function):
    """Rows of a table whose parts lie in several processes."""

    @staticmethod
    def forward(
        context: Any, weight: Tensor, flat: Tensor, first: int, place: Place, padding: int | None
    ) -> Tensor:
        everyone = all_of(flat, place)  # (R, n)
        inside = (everyone >= first) & (everyone < first + len(weight))
        local = (everyone - first).clamp(0, len(weight) - 1)
        rows = weight[local] * inside[..., None]  # (R, n, D)
        context.save_for_backward(local, inside if padding is None else inside & (everyone != padding))
        context.shape, context.place = weight.shape, place
        return place.add(rows)[place.rank]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        local, inside = context.saved_tensors
        everyone = all_of(gradients[0].contiguous(), context.place)  # (R, n, D)
        whole = everyone.new_zeros(context.shape)
        whole.index_add_(0, local[inside], everyone[inside])
        return whole, None, None, None, None


def edges(rows: int, rank: int, world: int) -> tuple[int, int]:
    """First row of a process, and the one after its last."""
    return rows * rank // world, rows * (rank + 1) // world


def all_of(part: Tensor, place: Place) -> Tensor:
    """Everybody's tensor of one shape (R, ...)."""
    if place.world == 1:
        return part[None]
    parts = [torch.empty_like(part) for _ in range(place.world)]
    dist.all_gather(parts, part.contiguous())
    return torch.stack(parts)


def drawn_rows(rows: int, width: int, scale: float, place: Place, seed: int) -> Tensor:
    """This process's rows of a normal table (rows, width), the same table for any number of processes.

    The whole of it is nowhere: blocks of rows have generators of their own.
    """
    first, last = edges(rows, place.rank, place.world)
    parts = []
    for block in range(first // BLOCK, (last - 1) // BLOCK + 1):
        generator = torch.Generator().manual_seed(mix(seed, block))
        drawn = torch.randn(BLOCK, width, generator=generator) * scale
        start = block * BLOCK
        parts.append(drawn[max(first - start, 0) : last - start])
    return torch.cat(parts)


def tables(model: nn.Module) -> dict[str, ShardedTable]:
    """The tables that are dealt out, by the name of their weight."""
    return {
        f"{name}.weight" if name else "weight": module
        for name, module in model.named_modules()
        if isinstance(module, ShardedTable)
    }


def shards(model: nn.Module) -> set[int]:
    """Ids of the parameters that are parts of a table."""
    return {id(table.weight) for table in tables(model).values()}


def own_rows(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, of whole tables the rows of this process alone."""
    own = dict(tensors)
    for name, table in tables(model).items():
        if name in own and len(own[name]) == table.rows:
            own[name] = own[name][table.first : table.last]
    return own


def clip_over_shards(model: nn.Module, largest: float, place: Place) -> float:
    """Scale all gradients so that the norm over all, of every shard too, is at most `largest`; gives it."""
    own = shards(model)
    parts = total_square(parameter for parameter in model.parameters() if id(parameter) in own)
    rest = total_square(parameter for parameter in model.parameters() if id(parameter) not in own)
    norm = float((place.add(parts) + rest).sqrt())
    for parameter in model.parameters():
        if parameter.grad is not None and norm > largest:
            parameter.grad *= largest / (norm + 1e-6)
    return norm


def total_square(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Sum of the squares of gradients."""
    total = torch.zeros((), dtype=torch.float64)
    for parameter in parameters:
        if parameter.grad is not None:
            total = total + parameter.grad.double().square().sum().cpu()
    return total


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Tensors by name with the tables put together, everywhere; every process must ask."""
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return state | {name: table.gathered() for name, table in tables(model).items()}
