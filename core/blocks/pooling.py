"""One vector for a sequence: the mean, the largest or the last of its valid tokens."""

import torch
from torch import Tensor

from core.errors import ConfigError
from core.parts.lengths import beyond

WAYS = ("mean", "last", "max")


def pool(y: Tensor, lengths: Tensor | None = None, how: str = "mean") -> Tensor:
    """y (B, T, D) -> (B, D) over the valid tokens of each row; a row without any gives zeros.

    Args:
        lengths: (B,) valid tokens at the left of each row; None: all. What padding holds does not matter.
        how: "mean", "last" or "max".

    Raises:
        ConfigError: another way.
        ValueError: y of another shape, lengths outside 0..T.
    """
    if how not in WAYS:
        raise ConfigError(f"pooling is one of {', '.join(WAYS)}, got {how!r}")
    if y.ndim != 3:
        raise ValueError(f"pooling expects y of shape (B, T, D), got {tuple(y.shape)}")
    batch, time = y.shape[:2]
    ends = torch.full((batch,), time, device=y.device) if lengths is None else torch.as_tensor(lengths)
    ends = ends.to(y.device)
    if ends.shape != (batch,) or (batch and (int(ends.min()) < 0 or int(ends.max()) > time)):
        raise ValueError(f"pooling expects {batch} lengths in 0..{time}, got {ends.tolist()}")
    padding = beyond(ends, time).unsqueeze(-1)
    some = (ends > 0).unsqueeze(-1)
    if not time:
        return y.sum(1)
    if how == "mean":
        return y.masked_fill(padding, 0).sum(1) / ends.clamp(min=1).unsqueeze(-1)
    if how == "max":
        return y.masked_fill(padding, -torch.inf).amax(1).where(some, 0)
    rows = torch.arange(batch, device=y.device)
    return y[rows, (ends - 1).clamp(min=0)].where(some, 0)
