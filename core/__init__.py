"""Recurra's core: every recurrent unit behind one interface.

    import core
    unit = core.build("gru", 64)
    y, state = unit(x)
    net = core.stack("gru", 64, 128, layers=2, directions=2)

Names load on first use, so `import core` costs nothing.
"""

from typing import TYPE_CHECKING

from core.lazy import lazy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from core.blocks.stack import Stack, stack
    from core.errors import ConfigError, DataError, RecurraError, WeightsError
    from core.kernels.linear_scan import linear_scan
    from core.registry import build
    from core.registry import names as unit_names
    from core.sampling import generate
    from core.units.contract import Unit

_HOMES = {
    "Stack": ".blocks.stack",
    "stack": ".blocks.stack",
    "ConfigError": ".errors",
    "DataError": ".errors",
    "RecurraError": ".errors",
    "WeightsError": ".errors",
    "generate": ".sampling",
    "linear_scan": ".kernels.linear_scan",
    "build": ".registry",
    "unit_names": ".registry:names",
    "Unit": ".units.contract",
}

__all__ = [
    "ConfigError",
    "DataError",
    "RecurraError",
    "Stack",
    "Unit",
    "WeightsError",
    "build",
    "generate",
    "linear_scan",
    "stack",
    "unit_names",
]

__getattr__, __dir__ = lazy(globals(), _HOMES)
