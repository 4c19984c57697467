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
    from core.ctc.align import align
    from core.ctc.char_lm import CharLM, load_char_lm, train_char_lm
    from core.ctc.greedy import greedy
    from core.ctc.loss import ctc_loss
    from core.ctc.prefix_beam import PrefixBeam, prefix_beam
    from core.ctc.word_beam import word_beam
    from core.errors import ConfigError, DataError, RecurraError, WeightsError
    from core.kernels.linear_scan import linear_scan
    from core.registry import build
    from core.registry import names as unit_names
    from core.sampling import generate
    from core.units.contract import Unit

_HOMES = {
    "Stack": ".blocks.stack",
    "stack": ".blocks.stack",
    "align": ".ctc.align",
    "CharLM": ".ctc.char_lm",
    "load_char_lm": ".ctc.char_lm",
    "train_char_lm": ".ctc.char_lm",
    "greedy": ".ctc.greedy",
    "ctc_loss": ".ctc.loss",
    "PrefixBeam": ".ctc.prefix_beam",
    "prefix_beam": ".ctc.prefix_beam",
    "word_beam": ".ctc.word_beam",
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
    "CharLM",
    "ConfigError",
    "DataError",
    "PrefixBeam",
    "RecurraError",
    "Stack",
    "Unit",
    "WeightsError",
    "align",
    "build",
    "ctc_loss",
    "generate",
    "greedy",
    "linear_scan",
    "load_char_lm",
    "prefix_beam",
    "stack",
    "train_char_lm",
    "unit_names",
    "word_beam",
]

__getattr__, __dir__ = lazy(globals(), _HOMES)
