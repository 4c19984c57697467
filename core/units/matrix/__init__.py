"""Linear recurrences with a matrix state (fast weights): chunkwise dense products."""

from core.lazy import lazy
from core.units.row import Row

ROWS = (
    Row(
        "mamba2",
        "core.units.matrix.mamba2:Mamba2",
        "state space with one decay per head (SSD), whole block",
        ("ssd",),
    ),
    Row(
        "linear_attention",
        "core.units.matrix.linear_attention:LinearAttention",
        "linear attention, phi = elu + 1, with or without normaliser",
    ),
    Row(
        "retention",
        "core.units.matrix.retention:Retention",
        "RetNet layer, a fixed decay per head",
        ("retnet",),
    ),
    Row("gla", "core.units.matrix.gla:GLA", "gated linear attention, a decay per key channel"),
    Row("hgrn2", "core.units.matrix.hgrn2:HGRN2", "gated linear RNN whose key is one minus its forget gate"),
    Row(
        "rwkv4",
        "core.units.matrix.rwkv4:RWKV4",
        "RWKV-4 time mixing, a fading average per channel",
        ("rwkv",),
    ),
    Row("rwkv6", "core.units.matrix.rwkv6:RWKV6", "RWKV-6 time mixing, data-dependent decay per key channel"),
    Row("rwkv7", "core.units.matrix.rwkv7:RWKV7", "RWKV-7 time mixing, delta rule with vector decay"),
    Row("mlstm", "core.units.matrix.mlstm:MLSTM", "xLSTM's matrix memory with exponential gates"),
    Row("aaren", "core.units.matrix.aaren:Aaren", "attention with one learned query, as a recurrence"),
    Row(
        "delta_net",
        "core.units.matrix.delta_net:DeltaNet",
        "fast weights written by the delta rule",
        ("deltanet",),
    ),
    Row(
        "gated_delta_net",
        "core.units.matrix.gated_delta_net:GatedDeltaNet",
        "delta rule after a decay per head",
    ),
    Row("ttt", "core.units.matrix.ttt:TTT", "a linear model that learns by mini-batches", ("ttt_linear",)),
    Row("delta_product", "core.units.matrix.delta_product:DeltaProduct", "several delta steps a token"),
)
"""One row a unit; the registry name is the file name."""

__getattr__, __dir__ = lazy(globals())
