"""What is particular to RG-LRU, beside the contract of every unit."""

import torch
from torch import Tensor
from torch.testing import assert_close

from core.units.diagonal.rg_lru import RGLRU, bounded_sqrt, initial_decay


def test_the_first_token_is_not_scaled() -> None:
    unit = RGLRU(8, 8).double()
    x = torch.randn(2, 1, 8, dtype=torch.float64)
    i = (x[:, 0] @ unit.gate_weight[0, :, :8] + unit.gate_bias[0, :8]).sigmoid()
    assert_close(unit(x)[0][:, 0], i * x[:, 0])


def test_an_empty_state_that_has_seen_tokens_is_not_a_fresh_start() -> None:
    unit = RGLRU(8, 8).double()
    x = torch.randn(2, 3, 8, dtype=torch.float64)
    h, seen = unit.initial_state(x)
    fresh, _ = unit(x, (h, seen))
    continued, _ = unit(x, (h, torch.ones_like(seen)))
    assert (continued[:, 0].abs() < fresh[:, 0].abs()).all()


def test_documents_inside_a_row_start_afresh() -> None:
    unit = RGLRU(8, 8, heads=2).double()
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    start = torch.zeros(2, 9, dtype=torch.bool)
    start[:, [0, 5]] = True
    y, _ = unit.scan(x, torch.randn(2, 8, dtype=torch.float64), start)
    assert_close(y, torch.cat([unit(x[:, :5])[0], unit(x[:, 5:])[0]], 1))


def test_the_root_is_exact_and_its_slope_bounded() -> None:
    x = torch.tensor([0.0, 1e-9, 2.4e-7, 2.6e-7, 0.25], dtype=torch.float64, requires_grad=True)
    root = bounded_sqrt(x)
    assert_close(root, x.detach().sqrt())
    (slope,) = torch.autograd.grad(root.sum(), x)
    assert slope[:3].tolist() == [1000.0, 1000.0, 1000.0]
    assert_close(slope[3:], 0.5 / x.detach()[3:].sqrt())


def test_forward_mode_and_reverse_mode_derivatives_agree() -> None:
    unit = RGLRU(8, 8, heads=2).double()
    x, direction = torch.randn(2, 2, 5, 8, dtype=torch.float64)

    def output(x: Tensor) -> Tensor:
        return unit(x)[0]

    _, forward = torch.func.jvp(output, (x,), (direction,))
    _, reverse = torch.autograd.functional.jvp(output, x, direction)
    assert_close(forward, reverse)


def test_the_weight_of_the_past_is_exact_near_one() -> None:
    unit = RGLRU(8, 8)
    unit.decay.data.fill_(-12.0)
    x = torch.randn(1, 6, 8)
    seen = torch.zeros(1, 8), torch.ones(1, dtype=torch.bool)
    single, _ = unit(x, seen)
    double, _ = unit.double()(x.double(), (seen[0].double(), seen[1]))
    assert_close(single.double(), double, rtol=1e-5, atol=0)


def test_decays_start_on_the_ring() -> None:
    a = torch.exp(-8 * torch.nn.functional.softplus(initial_decay(10_000).double()))
    assert a.min() >= 0.9 - 1e-4
    assert a.max() <= 0.999 + 1e-4
    # uniform on the ring: the squared radius is
    assert abs(a.square().mean() - (0.81 + 0.998001) / 2) < 2e-3
