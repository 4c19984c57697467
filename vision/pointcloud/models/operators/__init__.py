"""What runs along a group of voxels: the five operators of LION as published, or any core unit by name.

An operator takes groups (G, T, C) and how many tokens of each are its own (G,), and gives (G, T, C) with its
residual included.
"""

from importlib import import_module
from typing import Any

from torch import nn

from core.errors import ConfigError

PUBLISHED = {
    "Mamba": ("mamba", "MambaOperator"),
    "RWKV": ("rwkv", "RWKVOperator"),
    "RetNet": ("retnet", "RetNetOperator"),
    "xLSTM": ("xlstm", "XLSTMOperator"),
    "TTT": ("ttt", "TTTOperator"),
}
"""Names of published settings; a core unit's name never has a capital."""


def build_operator(name: str, width: int, drop_path: float = 0.0, **options: Any) -> nn.Module:
    """An operator by name: published ones begin with a capital, all else is a core unit in both directions.

    Raises:
        ConfigError: no such operator, or options that it does not have.
    """
    if name in PUBLISHED:
        module, attribute = PUBLISHED[name]
        cls = getattr(import_module(f"{__name__}.{module}"), attribute)
        try:
            return cls(width, drop_path=drop_path, **options)
        except TypeError as error:
            raise ConfigError(f"operator {name}: {str(error).split('__init__() ')[-1]}") from error
    if name != name.lower():
        raise ConfigError(f"no operator {name!r}; published are {', '.join(PUBLISHED)}, or name a core unit.")
    from vision.pointcloud.models.operators.both_ways import BothWays

    return BothWays(name, width, drop_path, **options)


UNITS = ("min_gru", "hgrn", "gru", "mamba2", "gated_delta_net", "mlstm")
"""Core units that stand beside the published operators in `recurra pointcloud operators`."""


def measured(width: int, tokens: int, repeats: int = 3) -> list[dict[str, Any]]:
    """Parameters and milliseconds (best of some runs) of each operator along two groups of tokens."""
    import time

    import torch

    rows = []
    x, filled = torch.randn(2, tokens // 2, width), torch.full((2,), tokens // 2)
    for name in (*UNITS, *PUBLISHED):
        operator = build_operator(name, width).eval()
        best = float("inf")
        with torch.no_grad():
            for _ in range(repeats + 1):  # the first one compiles
                began = time.perf_counter()
                operator(x, filled)
                best = min(best, time.perf_counter() - began)
        rows.append(
            {
                "operator": name,
                "parameters": sum(part.numel() for part in operator.parameters()),
                "ms": 1000 * best,
            }
        )
    first = rows[0]["ms"]
    return [{**row, "of_min_gru": row["ms"] / first} for row in rows]
