import pytest
import torch
from torch.testing import assert_close

from core.units.diagonal.hippo import nplr, transition


@pytest.mark.parametrize("size", [2, 8, 64])
def test_legs_plus_its_rank_one_term_is_skew_but_for_half_the_identity(size: int) -> None:
    a, _ = transition("legs", size)
    p = (torch.arange(size, dtype=torch.float64) + 0.5).sqrt()
    normal = a + torch.outer(p, p) + torch.eye(size) / 2
    assert_close(normal, -normal.T, atol=1e-9, rtol=0)


@pytest.mark.parametrize("measure", ["legs", "fout"])
def test_normal_plus_low_rank_gives_the_matrix_back(measure: str) -> None:
    poles, p, b, v = nplr(measure, 16)
    a, column = transition(measure, 16)
    # conjugate halves; where fout has a pole at zero its pair is not a conjugate one
    keep = poles.abs() > 1e-6
    whole = torch.cat([v[:, keep], v[:, keep].conj()], 1)
    inside = whole.mH @ a.to(v.dtype) @ whole
    both = torch.cat([p[keep], p[keep].conj()])
    diagonal = torch.cat([poles[keep], poles[keep].conj()]).diag()
    assert_close(inside, diagonal - torch.outer(both, both.conj()), atol=1e-9, rtol=1e-9)
    assert_close(v[:, keep].mH @ column.to(v.dtype), b[keep, None])


def test_legs_remembers_the_mean_of_its_past() -> None:
    a, b = transition("legs", 6)
    state, steps = torch.zeros(6, 1, dtype=torch.float64), 4000
    signal = torch.sin(torch.arange(1, steps + 1, dtype=torch.float64) / 300)
    for t, value in enumerate(signal, 1):
        half = a / (2 * t)
        state = torch.linalg.solve(torch.eye(6) - half, (torch.eye(6) + half) @ state + b * value / t)
    assert state[0, 0] == pytest.approx(signal.mean().item(), abs=1e-3)


def test_unknown_measures_and_odd_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="no HiPPO measure 'legz'"):
        transition("legz", 4)
    with pytest.raises(ValueError, match="even size, got 5"):
        nplr("legs", 5)
    with pytest.raises(ValueError, match="legs and fout"):
        nplr("lagt", 4)
