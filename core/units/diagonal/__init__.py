"""Linear recurrences with a vector state: one scan over the whole sequence."""

from core.lazy import lazy
from core.units.row import Row

ROWS = (
    Row(
        "min_gru",
        "core.units.diagonal.min_gru:MinGRU",
        "minimal GRU whose gate ignores the state",
        ("mingru",),
    ),
    Row("min_lstm", "core.units.diagonal.min_lstm:MinLSTM", "minimal LSTM, gates sum to one", ("minlstm",)),
    Row("lru", "core.units.diagonal.lru:LRU", "linear recurrent unit with complex diagonal state"),
    Row("s4", "core.units.diagonal.s4:S4", "structured state-space layer, diagonal plus low rank"),
    Row("s4d", "core.units.diagonal.s4d:S4D", "diagonal state-space layer"),
    Row("s5", "core.units.diagonal.s5:S5", "diagonal state space with many inputs and outputs"),
    Row("hgrn", "core.units.diagonal.hgrn:HGRN", "gated linear unit with a lower bound of its forget gate"),
    Row("qrnn", "core.units.diagonal.qrnn:QRNN", "causal convolution for the gates, pooling for the state"),
    Row(
        "mamba",
        "core.units.diagonal.mamba:Mamba",
        "selective state space (S6), whole block",
        (
            "s6",
            "mamba1",
        ),
    ),
    Row(
        "rg_lru",
        "core.units.diagonal.rg_lru:RGLRU",
        "real-gated linear recurrent unit of Griffin",
        (
            "rglru",
            "griffin",
            "hawk",
        ),
    ),
)
"""One row a unit; the registry name is the file name."""

__getattr__, __dir__ = lazy(globals())
