"""What runs along a group of voxels: the five operators of LION as published, or any core unit by name.

An operator takes groups (G, T, C) and how many tokens of each are its own (G,), and gives (G, T, C) with its
residual included.
"""

from collections.abc import Iterator
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


def measured(width: int, tokens: int, device: Any = "cpu", repeats: int = 3) -> Iterator[dict[str, Any]]:
    """Parameters, milliseconds (best of some runs) and megabytes of each operator along two groups of tokens.

    One row after another, as each is measured.

    Megabytes are what a forward pass keeps for its gradients. On a GPU there is also the peak of a pass
    without gradients, and the largest difference from the CPU's answer relative to its largest value.
    """
    import time

    import torch

    device = torch.device(device)
    x, filled = torch.randn(2, tokens // 2, width), torch.full((2,), tokens // 2)
    here, filled_here = x.to(device), filled.to(device)
    first = None
    for name in (*UNITS, *PUBLISHED):
        operator = build_operator(name, width).eval()
        row: dict[str, Any] = {
            "operator": name,
            "parameters": sum(part.numel() for part in operator.parameters()),
        }
        with torch.no_grad():
            reference = operator(x, filled) if device.type == "cuda" else None
            operator.to(device)
            best = float("inf")
            for _ in range(repeats + 1):  # the first one compiles
                began = time.perf_counter()
                found = operator(here, filled_here)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                best = min(best, time.perf_counter() - began)
            if reference is not None:
                gap = (found.cpu() - reference).abs().max() / reference.abs().max()
                torch.cuda.reset_peak_memory_stats(device)
                before = torch.cuda.memory_allocated(device)
                operator(here, filled_here)
                row["peak_mb"] = round((torch.cuda.max_memory_allocated(device) - before) / 1e6, 1)
                row["from_cpu"] = float(gap)
        first = first or best
        kept = kept_mb(operator, here, filled_here)
        yield {**row, "ms": 1000 * best, "kept_mb": kept, "of_min_gru": best / first}


def kept_mb(operator: nn.Module, *inputs: Any) -> float:
    """Megabytes that a forward pass keeps for its gradients, each tensor once."""
    import torch

    kept: dict[int, int] = {}

    def keep(part: torch.Tensor) -> torch.Tensor:
        kept[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
        return part

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part):
        operator(*inputs)
    return round(sum(kept.values()) / 1e6, 1)
