"""A table that is larger than one machine: each process holds some of its rows.

    rank r of R holds rows [r n / R, (r + 1) n / R)
    forward    everybody's indices go to everybody, each looks up its own rows, the sum goes back
    backward   everybody's gradients go to everybody, each keeps what belongs to its rows

The table stays out of what is shared by all processes: its gradients are whole already, the norm for clipping
is summed over the shards, and `gathered` puts the rows together for a checkpoint or an export. One process is
the same code with all rows. All processes must look up at the same moments, with batches of one size.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.errors import ConfigError
from core.training.distributed import Place


class ShardedTable(nn.Module):
    """Indices (...) -> rows (..., D) of a table (N, D) of which this process holds a part."""

    def __init__(self, rows: int, width: int, place: Place, start: Tensor | None = None) -> None:
        super().__init__()
        if rows < place.world:
            raise ConfigError(f"{rows} rows cannot be shared by {place.world} processes.")
        self.rows, self.place = rows, place
        self.first, self.last = edges(rows, place.rank, place.world)
        own = torch.zeros(self.last - self.first, width) if start is None else start[self.first : self.last]
        self.weight = nn.Parameter(own.clone())

    def forward(self, indices: Tensor) -> Tensor:
        flat = indices.reshape(-1)
        found: Any = Lookup.apply(self.weight, flat, self.first, self.place)
        return found.reshape(*indices.shape, -1)

    def gathered(self) -> Tensor:
        """The whole table (N, D), everywhere; every process must ask."""
        parts = self.place.gather(self.weight.detach().cpu())
        return torch.cat(parts)


class Lookup(torch.autograd.Function):
    """Rows of a table whose parts lie in several processes."""

    @staticmethod
    def forward(context: Any, weight: Tensor, flat: Tensor, first: int, place: Place) -> Tensor:
        everyone = all_of(flat, place)  # (R, n)
        inside = (everyone >= first) & (everyone < first + len(weight))
        local = (everyone - first).clamp(0, len(weight) - 1)
        rows = weight[local] * inside[..., None]  # (R, n, D)
        context.save_for_backward(local, inside)
        context.shape, context.place = weight.shape, place
        return place.add(rows)[place.rank]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        local, inside = context.saved_tensors
        everyone = all_of(gradients[0].contiguous(), context.place)  # (R, n, D)
        whole = everyone.new_zeros(context.shape)
        whole.index_add_(0, local[inside], everyone[inside])
        return whole, None, None, None


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


def shards(model: nn.Module) -> set[int]:
    """Ids of the parameters that are parts of a table."""
    return {id(module.weight) for module in model.modules() if isinstance(module, ShardedTable)}


def share_gradients(model: nn.Module, place: Place) -> None:
    """Means over the processes: the others' are summed, those of shards are whole already."""
    own = shards(model)
    for parameter in model.parameters():
        if parameter.grad is not None:
            if id(parameter) not in own:
                place.add(parameter.grad)
            parameter.grad /= place.world


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
    for name, module in model.named_modules():
        if isinstance(module, ShardedTable):
            state[f"{name}.weight" if name else "weight"] = module.gathered()
    return state
