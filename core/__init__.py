"""Recurra's core: every recurrent unit behind one interface.

    import core
    unit = core.build("gru", 64)
    y, state = unit(x)
    net = core.stack("gru", 64, 128, layers=2, directions=2)

Names load on first use, so `import core` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from core.blocks.stack import Stack, stack
    from core.errors import ConfigError, DataError, RecurraError, WeightsError
    from core.kernels.linear_scan import linear_scan
    from core.registry import build
    from core.registry import names as unit_names
    from core.units.contract import Unit

_HOMES = {
    "Stack": "core.blocks.stack:Stack",
    "stack": "core.blocks.stack:stack",
    "ConfigError": "core.errors:ConfigError",
    "DataError": "core.errors:DataError",
    "RecurraError": "core.errors:RecurraError",
    "WeightsError": "core.errors:WeightsError",
    "linear_scan": "core.kernels.linear_scan:linear_scan",
    "build": "core.registry:build",
    "unit_names": "core.registry:names",
    "Unit": "core.units.contract:Unit",
}

__all__ = [
    "ConfigError",
    "DataError",
    "RecurraError",
    "Stack",
    "Unit",
    "WeightsError",
    "build",
    "linear_scan",
    "stack",
    "unit_names",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'core' has no attribute {name!r}")
    module, attribute = _HOMES[name].split(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
