"""Published Mamba mixers go in and come out unchanged."""

import pytest
import torch
from torch.testing import assert_close

from core.errors import WeightsError
from core.layouts import transformers_mamba as layout
from core.units.diagonal.mamba import Mamba
from core.units.matrix.mamba2 import Mamba2

UNITS = {
    "mamba": lambda: layout.mamba(16, state_size=5, time_step_rank=3, use_bias=True),
    "mamba2": lambda: layout.mamba2(16, num_heads=4, head_dim=8, state_size=6, n_groups=2),
}
every_unit = pytest.mark.parametrize("name", UNITS)


@every_unit
def test_weights_survive_the_round_trip(name: str) -> None:
    unit: Mamba | Mamba2 = UNITS[name]()
    published = layout.to_published(unit)
    assert published["conv1d.weight"].shape[1:] == (1, 4)
    twin: Mamba | Mamba2 = UNITS[name]()
    twin.load_state_dict(layout.from_published(published, twin))
    x = torch.randn(2, 7, 16)
    assert_close(twin(x)[0], unit(x)[0], rtol=0, atol=0)


@every_unit
def test_a_published_cache_continues_pieces_of_any_length(name: str) -> None:
    unit: Mamba | Mamba2 = UNITS[name]()
    x = torch.randn(2, 9, 16)
    whole, _ = unit(x)
    _, state = unit(x[:, :4])
    cache = layout.to_published_cache(unit, state)
    tail, _ = unit(x[:, 4:], layout.from_published_cache(unit, *cache))
    assert_close(tail, whole[:, 4:])


@every_unit
def test_a_foreign_file_is_named(name: str) -> None:
    unit: Mamba | Mamba2 = UNITS[name]()
    published = layout.to_published(unit)
    with pytest.raises(WeightsError, match="extra: in the file or in the model"):
        layout.from_published({**published, "extra": torch.zeros(1)}, unit)
    with pytest.raises(WeightsError, match=r"A_log is \(1,\) in the file"):
        layout.from_published({**published, "A_log": torch.zeros(1)}, unit)


def test_impossible_heads_are_refused() -> None:
    with pytest.raises(WeightsError, match="do not make up the inner width"):
        layout.mamba2(16, num_heads=3, head_dim=8)
