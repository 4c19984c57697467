"""Gradients of one step: the weighted mean over its pieces and over all processes.

They are shared once a step, after all its pieces, and not while each is computed: so a step may use any
method of the model, leave parts of it unused, or find nothing to learn in one process.
"""

from collections.abc import Sequence, Set

import torch
from torch import Tensor, nn

from core.training.distributed import Place


def shared(
    parameters: Sequence[nn.Parameter],
    weights: Sequence[Tensor | float],
    complete: bool,
    place: Place,
    whole: Set[int] = frozenset(),
) -> bool:
    """Turn sums of weighted gradients into their mean, in place; False where there was nothing to learn.

    `weights` are those of this process's pieces. `complete` says that they add up to one, so that in a single
    process nothing is left to do. `whole` are ids of parameters whose gradients hold everybody's already.
    """
    total = sum(weights)
    if place.world == 1:
        if weights and not complete:
            scale(parameters, 1 / total)
        return bool(weights)
    if not isinstance(total, Tensor):
        total = torch.tensor(float(total), dtype=torch.float64, device=place.device)
    here = [parameter.grad is not None for parameter in parameters]
    about = torch.cat([total.reshape(1).to(place.device), total.new_tensor(here, dtype=torch.float64)])
    about = place.add(about)
    if all(here):
        given = here
    else:  # a parameter that nobody used keeps no gradient, as in one process
        weight, *users = about.tolist()
        if not weight:
            return False
        given = [bool(number) for number in users]
    gather_sparse(parameters, place)
    factor = 1 / about[0]
    scale([parameter for parameter in parameters if id(parameter) in whole], factor)
    for dtype in sorted({parameter.dtype for parameter in parameters}, key=str):
        members = [
            parameter
            for parameter, used in zip(parameters, given, strict=True)
            if used and parameter.dtype == dtype and not is_sparse(parameter) and id(parameter) not in whole
        ]
        if not members:
            continue
        flat = torch.cat([dense(parameter).reshape(-1) for parameter in members])
        place.add(torch.view_as_real(flat) if flat.is_complex() else flat)
        flat *= factor.to(flat.dtype)
        for parameter, piece in zip(members, flat.split([p.numel() for p in members]), strict=True):
            parameter.grad = piece.view_as(parameter)
    scale([parameter for parameter in parameters if is_sparse(parameter)], factor)
    return True


def dense(parameter: nn.Parameter) -> Tensor:
    """A gradient, zeros where there is none."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def is_sparse(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and parameter.grad.is_sparse


def gather_sparse(parameters: Sequence[nn.Parameter], place: Place) -> None:
    """Sums of gradients that are sparse in some process; they stay sparse in all."""
    rows = {
        number: (parameter.grad.coalesce().indices().cpu(), parameter.grad.coalesce().values().cpu())
        for number, parameter in enumerate(parameters)
        if parameter.grad is not None and parameter.grad.is_sparse
    }
    [known] = place.any(bool(rows))
    if not known:
        return
    everyone = place.gather(rows)
    for number in sorted({number for each in everyone for number in each}):
        parameter = parameters[number]
        indices, values = zip(*(each[number] for each in everyone if number in each), strict=True)
        parameter.grad = (
            torch.sparse_coo_tensor(
                torch.cat(indices, 1), torch.cat(values), parameter.shape, check_invariants=False
            )
            .coalesce()
            .to(parameter.device)
        )


@torch.no_grad()
def scale(parameters: Sequence[nn.Parameter], factor: Tensor | float) -> None:
    """Multiply gradients."""
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            parameter.grad._values().mul_(factor)
        else:
            parameter.grad.mul_(factor)
