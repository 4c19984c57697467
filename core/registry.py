"""Names of units and where they live; nothing is imported before it is asked for."""

from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from core.domains import OURS, UNITS, Signed, usable
from core.errors import ConfigError


@dataclass(frozen=True)
class Row:
    """One unit of the registry."""

    name: str
    target: str
    """module:Class"""
    summary: str
    aliases: tuple[str, ...] = ()
    origin: str = OURS
    """The distribution, or for a path the package, that it comes from."""


# One row a unit; the registry name is the file name.
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
        ("s6", "mamba1"),
    ),
    Row(
        "mamba2",
        "core.units.matrix.mamba2:Mamba2",
        "state space with one decay per head (SSD), whole block",
        ("ssd",),
    ),
    Row(
        "rg_lru",
        "core.units.diagonal.rg_lru:RGLRU",
        "real-gated linear recurrent unit of Griffin",
        ("rglru", "griffin", "hawk"),
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
    Row(
        "fsmn",
        "core.units.window.fsmn:FSMN",
        "feed-forward sequential memory, a window of learned taps",
        ("dfsmn",),
    ),
    Row(
        "plstm", "core.units.grid.plstm:PLSTM", "pLSTM on a sequence: source, transition, mark, direct gates"
    ),
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
    Row("delta_product", "core.units.matrix.delta_product:DeltaProduct", "several delta steps a token"),
)


def rows() -> list[Row]:
    """Our units in table order, then those that other packages have signed in."""
    known = taken()
    foreign = [
        Row(row.name, row.target, f"from the package {row.distribution}", origin=row.distribution)
        for row in usable(UNITS).values()
        if row.name not in known
    ]
    return [*ROWS, *foreign]


def taken() -> set[str]:
    """Names and aliases of our units, which nobody else can have."""
    return {name for row in ROWS for name in (row.name, *row.aliases)}


def names() -> list[str]:
    """Registry names in table order."""
    return [row.name for row in rows()]


def find(name: str) -> Row:
    """The row of a unit by name or alias, or one made for "package.module:Class".

    Raises:
        ConfigError: no such unit; names the closest ones.
    """
    if ":" in name:
        return Row(name, name, "given by its path", origin=name.partition(".")[0].partition(":")[0])
    key = name.lower().replace("-", "_").replace(" ", "_")
    known = {alias: row for row in rows() for alias in (row.name, *row.aliases)}
    if key in known:
        return known[key]
    close = get_close_matches(key, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else "`recurra units` lists them all."
    raise ConfigError(f"no unit {name!r}; {hint}")


def unit_class(name: Any) -> Any:
    """The class of a unit.

    Raises:
        ConfigError: no such unit, or what is there is not a Unit.
        SignInError: the package that brings it cannot be imported.
    """
    if isinstance(name, type):
        return checked_class(name, name.__name__, f"{name.__module__}:{name.__name__}")
    row = find(name)
    if row in ROWS:
        module, attribute = row.target.split(":")
        return getattr(import_module(module), attribute)
    return checked_class(Signed(row.name, row.target, row.origin).load(), row.name, row.target)


def checked_class(found: Any, name: str, target: str) -> Any:
    """What was found, after checking that it is a class of units."""
    from core.units.contract import Unit

    if not (isinstance(found, type) and issubclass(found, Unit)):
        raise ConfigError(f"unit {name}: {target} is not a class of core.units.contract.Unit.")
    return found


def build(name: Any, input_size: int, hidden_size: int | None = None, **options: Any) -> Any:
    """A unit by name or by "package.module:Class"; `build("gru", 64)` has equal widths, ("gru", 3, 64) not.

    Raises:
        ConfigError: unknown unit, or an option that it does not have.
        SignInError: the package that brings the unit cannot be imported.
    """
    cls = unit_class(name)
    try:
        return cls(input_size, input_size if hidden_size is None else hidden_size, **options)
    except TypeError as error:
        name = name.__name__ if isinstance(name, type) else name
        raise ConfigError(f"unit {name}: {str(error).split('__init__() ')[-1]}") from error
