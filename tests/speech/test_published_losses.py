"""Losses of published recipes: values that can be worked out, and silence."""

import math

import pytest
import torch

from speech.loss import best_order, si_sdr
from speech.published_losses import (
    framed,
    frcrn_loss,
    multi_resolution_loss,
    phase_sensitive_loss,
    symmetric_hamming,
    symmetric_hann,
)

G = torch.Generator().manual_seed(0)
CLEAN = 0.1 * torch.randn(2, 9600, generator=G)


def test_a_perfect_frcrn_mask_costs_nothing_but_the_ratio() -> None:
    noisy = 2 * CLEAN
    frames = framed(noisy, symmetric_hann(640, like=noisy), 320)
    mask = torch.zeros(2, frames.shape[1], 321, 2)
    mask[..., 0] = 0.5
    loss = frcrn_loss(mask, CLEAN + 0.01 * CLEAN.flip(0), noisy, CLEAN)
    expected = -si_sdr(CLEAN + 0.01 * CLEAN.flip(0), CLEAN, 1e-6).mean()
    assert float(loss) == pytest.approx(float(expected), abs=0.05)
    mask[..., 1] = 0.1  # each part by itself: 640 * 0.01 more
    more = frcrn_loss(mask, CLEAN + 0.01 * CLEAN.flip(0), noisy, CLEAN)
    assert float(more - loss) == pytest.approx(6.4, rel=1e-3)


def test_large_parts_of_an_frcrn_target_are_one() -> None:
    """S = 3 Y: the ratio is 3, above 2, so the published target is 1."""
    mask = torch.zeros(2, 29, 321, 2)
    mask[..., 0] = 1.0
    assert float(frcrn_loss(mask, CLEAN, CLEAN / 3, CLEAN)) == pytest.approx(
        -float(si_sdr(CLEAN, CLEAN, 1e-6).mean()), abs=0.5
    )


def test_phase_sensitive_targets_are_the_ratio_of_powers_times_the_cosine() -> None:
    clean = 1000 * torch.randn(1, 1920 + 2 * 384, generator=G)
    noisy = 2 * clean
    frames = framed(noisy, symmetric_hamming(1920, like=noisy), 384)
    assert frames.shape == (1, 3, 961)
    mask = torch.full((1, 3, 961), 0.25)
    assert float(phase_sensitive_loss(mask, noisy, clean)) == pytest.approx(0.0, abs=1e-6)
    assert float(phase_sensitive_loss(0 * mask, noisy, -clean)) == pytest.approx(0.0, abs=1e-6)
    magnitude = frames.abs()
    expected = 0.5 * 0.25**2 * (magnitude / magnitude.amax(-1, keepdim=True)).sum() / 3
    assert float(phase_sensitive_loss(0 * mask, noisy, clean)) == pytest.approx(float(expected), rel=1e-4)


def test_multi_resolution_of_a_scaled_wave_is_known() -> None:
    """Half as loud: convergence 1/2, log distance ln 2."""
    loss = multi_resolution_loss(CLEAN / 2, CLEAN)
    assert float(loss) == pytest.approx(0.5 + math.log(2), rel=1e-3)
    assert float(multi_resolution_loss(CLEAN, CLEAN)) == 0


@pytest.mark.parametrize("silent", ["one", "all"])
def test_silent_references_leave_every_loss_and_gradient_finite(silent: str) -> None:
    clean = CLEAN.clone()
    clean[0 if silent == "one" else slice(None)] = 0
    estimate = (0.5 * CLEAN).requires_grad_()
    mask = torch.full((2, 29, 321, 2), 0.3, requires_grad=True)
    wide = torch.full((2, 21, 961), 0.3, requires_grad=True)
    loss = (
        frcrn_loss(mask, estimate, CLEAN, clean)
        + phase_sensitive_loss(wide, CLEAN, clean)
        + multi_resolution_loss(estimate, clean)
    )
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    for part in (estimate, mask, wide):
        assert part.grad is not None
        assert torch.isfinite(part.grad).all()


def test_the_best_order_of_five_is_that_of_all_permutations() -> None:
    table = torch.rand(3, 5, 5, generator=G)
    from itertools import permutations

    orders = torch.tensor(list(permutations(range(5))))
    costs = table[:, orders, torch.arange(5)].mean(-1)
    torch.testing.assert_close(
        table.gather(1, best_order(table)[:, None]).mean((1, 2)), costs.amin(1), rtol=1e-6, atol=0
    )
