"""Options of units: by keyword, documented, and checked before anything is built."""

import inspect
import re
from typing import Any

import pytest

import core
from core import registry
from core.blocks import griffin
from core.errors import ConfigError
from core.parts.conv import CausalConv
from core.parts.norm import GatedRMSNorm
from core.units.grid.plstm2d import PLSTM2D
from core.units.window.attention import LocalAttention

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("lem", {"dt": -3}),
    ("lem", {"dt": float("nan")}),
    ("gla", {"key_size": 0}),
    ("gla", {"gate_rank": 0}),
    ("rwkv4", {"inner_size": 0}),
    ("rwkv6", {"mix_rank": 0}),
    ("rwkv7", {"gate_rank": 0}),
    ("mlstm", {"key_factor": -1}),
    ("mlstm", {"input_gate": "relu"}),
    ("fsmn", {"inner_size": 0}),
    ("s4d", {"dt_min": 0.1, "dt_max": 0.01}),
    ("s4d", {"init": "random"}),
    ("s4", {"measure": "legt"}),
    ("s5", {"blocks": 3}),
    ("delta_net", {"conv_width": 0}),
    ("gated_delta_net", {"value_size": 0, "heads": 2}),
    ("delta_product", {"steps": 0}),
    ("mamba", {"expand": 0}),
    ("mamba2", {"conv_width": 0}),
    ("hgrn", {"lower_bound": 2}),
    ("hgrn", {"eps": 0}),
    ("hgrn2", {"lower_bound": 2}),
    ("lru", {"r_min": 0.9, "r_max": 0.5}),
    ("lru", {"state_size": 0}),
    ("min_gru", {"expansion": 0}),
    ("min_lstm", {"expansion": float("nan")}),
    ("qrnn", {"window": 0}),
    ("qrnn", {"pooling": "xo"}),
    ("gru", {"reset": "never"}),
    ("slstm", {"heads": 3}),
    ("para_gru", {"heads": 3}),
    ("plstm", {"conv_width": 0}),
    ("aaren", {"heads": 3}),
    ("ttt", {"mini_batch": 0}),
    ("ttt", {"base_rate": -1}),
]


@pytest.mark.parametrize(("name", "options"), WRONG, ids=[f"{name}-{options}" for name, options in WRONG])
def test_a_wrong_option_is_a_config_error(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=re.escape(next(iter(options))[:4])):
        core.build(name, 8, **options)


@pytest.mark.parametrize("name", registry.names())
def test_widths_are_positive(name: str) -> None:
    for widths in ((0, 8), (8, 0)):
        with pytest.raises(ConfigError, match="positive widths"):
            core.build(name, *widths)


def classes() -> list[type]:
    ours = [registry.unit_class(name) for name in registry.names()]
    return [*ours, LocalAttention, PLSTM2D, griffin.Griffin, griffin.RecurrentBlock, griffin.ResidualBlock]


@pytest.mark.parametrize("cls", classes(), ids=lambda cls: cls.__name__)
def test_options_come_by_keyword_and_are_documented(cls: type) -> None:
    parameters = list(inspect.signature(cls.__init__).parameters.values())[3:]
    told = inspect.getdoc(cls) or ""
    arguments = told.partition("Args:")[2]
    for parameter in parameters:
        assert parameter.kind is parameter.KEYWORD_ONLY, parameter.name
        assert re.search(rf"(^|[ ,]){parameter.name}[,:]", arguments, re.MULTILINE), parameter.name


def test_parts_check_their_sizes_too() -> None:
    with pytest.raises(ConfigError, match="width 0"):
        CausalConv(3, 0)
    with pytest.raises(ConfigError):
        GatedRMSNorm(6, groups=4)
