"""Losses: their best value, what they are blind to, silence, and orders of any number."""

import pytest
import torch

from speech.loss import best_order, enhancement_loss, separation_loss, si_sdr


def waves(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_perfect_estimate_has_the_least_loss() -> None:
    clean = waves(2, 16000)
    best = enhancement_loss(clean, clean)
    assert best["spectrum"] < 1e-6
    assert best["loudness"] < 1e-3
    assert best["envelope"] < 1e-3
    assert float(best["si_sdr"]) == pytest.approx(25.0, abs=0.1)
    worse = enhancement_loss(clean + waves(2, 16000, seed=1), clean)
    assert all(worse[name] > best[name] for name in ("loss", "spectrum", "loudness", "envelope"))


def test_level_of_the_pair_does_not_matter() -> None:
    clean, noisy = waves(2, 16000), waves(2, 16000) + waves(2, 16000, seed=1)
    loud, quiet = enhancement_loss(noisy, clean), enhancement_loss(noisy * 0.01, clean * 0.01)
    assert float(loud["loss"]) == pytest.approx(float(quiet["loss"]), rel=2e-2)


@pytest.mark.parametrize("sources", [2, 3, 5])
def test_the_best_order_is_found(sources: int) -> None:
    clean = waves(3, sources, 4000)
    order = torch.stack(
        [torch.randperm(sources, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    )
    estimates = torch.stack([row[chosen] for row, chosen in zip(clean, order, strict=True)])
    pairwise = -si_sdr(estimates[:, :, None], clean[:, None])
    found = best_order(pairwise)
    torch.testing.assert_close(torch.gather(order, 1, found), torch.arange(sources).expand(3, -1))


def test_a_silent_source_asks_for_silence() -> None:
    voice = waves(2, 16000)
    sources = torch.stack([voice, torch.zeros_like(voice)], 1)
    hushed = torch.stack([torch.zeros_like(voice), voice], 1).requires_grad_()
    leaky = torch.stack([0.5 * voice, voice], 1)
    least = separation_loss(hushed, sources, voice)
    assert least < separation_loss(leaky, sources, voice)
    least.backward()
    assert hushed.grad is not None
    assert hushed.grad.isfinite().all()


def test_silence_alone_gives_no_nan() -> None:
    zero = torch.zeros(2, 8000, requires_grad=True)
    loss = enhancement_loss(zero, torch.zeros(2, 8000))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert zero.grad is not None
    assert zero.grad.isfinite().all()
