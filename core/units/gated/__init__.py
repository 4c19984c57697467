"""Cells whose gates read the previous state: nonlinear recurrences."""

from core.lazy import lazy
from core.units.row import Row

ROWS = (
    Row("rnn", "core.units.gated.rnn:RNN", "Elman network, tanh or relu", ("elman",)),
    Row("lstm", "core.units.gated.lstm:LSTM", "long short-term memory, with its variants as flags"),
    Row("gru", "core.units.gated.gru:GRU", "gated recurrent unit, reset after or before"),
    Row("mgu", "core.units.gated.mgu:MGU", "minimal gated unit, one gate"),
    Row("indrnn", "core.units.gated.indrnn:IndRNN", "independently recurrent network", ("ind_rnn",)),
    Row("lem", "core.units.gated.lem:LEM", "long expressive memory, two time scales"),
    Row("para_gru", "core.units.gated.para_gru:ParaGRU", "GRU with a diagonal recurrence", ("paragru",)),
    Row(
        "para_lstm",
        "core.units.gated.para_lstm:ParaLSTM",
        "coupled peephole LSTM with a diagonal recurrence",
        ("paralstm",),
    ),
    Row("slstm", "core.units.gated.slstm:SLSTM", "xLSTM's scalar memory, exponential gates", ("s_lstm",)),
)
"""One row a unit; the registry name is the file name."""

__getattr__, __dir__ = lazy(globals())
