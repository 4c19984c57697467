import pytest
import torch
from torch.testing import assert_close

from core.errors import ConfigError
from core.kernels.plstm.grid import plstm_grid
from core.units.grid import plstm2d
from core.units.grid.plstm import PLSTM
from core.units.grid.plstm2d import PLSTM2D


def noisy(module: torch.nn.Module) -> torch.nn.Module:
    for parameter in module.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return module.double()


def test_widths_may_differ_and_then_nothing_skips() -> None:
    unit = PLSTM(6, 9, heads=3)
    assert unit.skip is None
    assert unit(torch.randn(2, 5, 6))[0].shape == (2, 5, 9)
    with pytest.raises(ConfigError, match="divide the input width 6"):
        PLSTM(6, 8, heads=4)


def test_transitions_begin_with_long_memories() -> None:
    forget = 1 - (5 * PLSTM(256, 256).transition_bias).tanh()
    assert_close(forget, torch.logspace(-3, -1, 4), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("mode", ["P", "D"])
@pytest.mark.parametrize("grid", [(1, 1), (5, 3), (2, 7)])
def test_the_grid_layer_takes_any_size(mode: str, grid: tuple[int, int]) -> None:
    layer = noisy(PLSTM2D(4, 6, mode=mode, heads=2))
    x = torch.randn(2, *grid, 4, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert y.shape == (2, *grid, 6)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("mode", ["P", "D"])
def test_every_node_reads_every_other(mode: str) -> None:
    layer = noisy(PLSTM2D(4, 4, mode=mode, heads=2))
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    layer(x)[0, 1, 1].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().amax(-1).min() > 0


def test_one_row_of_the_grid_runs_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(q: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(q.unflatten(0, (-1, 2, 4)))
        return plstm_grid(q, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(plstm2d, "plstm_grid", watched)
    noisy(PLSTM2D(4, 4, mode="D", heads=2))(torch.randn(1, 5, 1, 4, dtype=torch.float64))
    ahead, reversed_, same, both = seen[0].unbind(2)
    assert_close(reversed_, ahead.flip(2))
    assert_close(same, ahead)
    assert_close(both, reversed_)


def test_wrong_input_of_the_grid_layer_is_named() -> None:
    layer = PLSTM2D(4, 4)
    with pytest.raises(ValueError, match=r"expects x of shape \(B, X, Y, 4\), got \(2, 3, 4\)"):
        layer(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="floating"):
        layer(torch.zeros(2, 3, 3, 4, dtype=torch.long))
    with pytest.raises(ConfigError, match="mode P or D"):
        PLSTM2D(4, 4, mode="Q")
