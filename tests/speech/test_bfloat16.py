"""Training in bfloat16: the fast LSTMs beside the plain one, mixtures of spectra, the loss of a step."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from speech.dynamic import MixConfig
from speech.loss import spectral_separation_loss
from speech.models.bf16_lstm import Bf16LSTM, growth
from speech.models.recurrence import Recurrence
from speech.models.separate import SeparateConfig, SeparateNet, masked
from speech.spectral_mixing import SpectralMixer
from speech.synth import generated_corpus


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.detach().float() - b.detach()).norm() / b.detach().norm())


def test_a_trained_lstm_agrees_with_torch_in_both_directions() -> None:
    torch.manual_seed(0)
    wanted = torch.nn.LSTM(12, 20, bidirectional=True, batch_first=True)
    ours = Recurrence("lstm", 12, 20, directions=2)
    for unit, end in zip(ours.units, ("", "_reverse"), strict=True):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(unit, name).data.copy_(getattr(wanted, f"{name}_l0{end}").data)
    x, other = (torch.randn(3, 9, 12, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    x, other = x.requires_grad_(), other.requires_grad_()
    direction = torch.randn(3, 9, 40)
    with torch.autocast("cpu", torch.bfloat16):
        y, states = ours(x)
    y.backward(direction.to(y.dtype))
    truth, (h, c) = wanted(other)
    truth.backward(direction)
    assert y.dtype is torch.bfloat16
    assert relative(y, truth) < 0.01
    assert x.grad is not None
    assert other.grad is not None
    assert relative(x.grad, other.grad) < 0.02
    assert relative(states[1][0], h[1]) < 0.01
    assert relative(states[0][1], c[0]) < 0.01
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        assert relative(getattr(ours.units[1], name).grad, getattr(wanted, f"{name}_l0_reverse").grad) < 0.02


def test_the_exponential_holds_four_digits_and_does_not_overflow() -> None:
    for x in (-100.0, -30.0, -1.3, 0.0, 0.7, 29.0):
        assert growth(torch.tensor(x).numpy()[()]) == pytest.approx(
            float(torch.tensor(max(x, -30.0)).exp()), rel=1e-4
        )
    assert growth(torch.tensor(100.0).numpy()[()]) < 2e13


def test_half_precision_changes_the_loss_of_a_step_by_less_than_one_percent() -> None:
    torch.manual_seed(0)
    network = SeparateNet(
        SeparateConfig(
            bands=8, channels=16, shared=4, layers=1, whole_hidden=16, blocks=1, hidden=8, decoder=16
        )
    )
    mixer = SpectralMixer(
        [generated_corpus(talkers=4, seconds=3.0)], MixConfig(seconds=1.0), 1024, torch.device("cpu")
    )
    mixture, talkers = mixer.separation(3, 4)
    losses = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses.append(spectral_separation_loss(masked(network.masks(mixture, None)[0], mixture), talkers))
    # random weights leave both outputs near half the mixture, so the loss itself is near zero: 10 dB scale
    assert float((losses[1] - losses[0]).detach()) == pytest.approx(
        0.0, abs=0.01 * max(1.0, abs(float(losses[0].detach())))
    )
    losses[1].backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_gradients_of_the_compiled_steps_are_those_of_the_sequence() -> None:
    torch.manual_seed(2)
    x = torch.randn(4, 2, 3).bfloat16()
    w = [torch.randn(20, 3) * 0.4, torch.randn(20, 5) * 0.4, torch.randn(20) * 0.1]
    weights = [part.requires_grad_() for part in w]
    y, cell = Bf16LSTM.apply(x, *weights, True)  # pyright: ignore
    assert not cell.requires_grad
    y.float().square().sum().backward()
    before = float(y.detach().float().square().sum())
    moved = [part.detach() - 1e-2 * part.grad for part in weights if part.grad is not None]
    after, _ = Bf16LSTM.apply(x, *moved, True)  # pyright: ignore
    expected = 1e-2 * sum(float(part.grad.square().sum()) for part in weights if part.grad is not None)
    assert before - float(after.float().square().sum()) == pytest.approx(expected, rel=0.25)


def test_mixtures_of_spectra_are_sums_of_two_talkers_and_depend_on_the_seed_alone() -> None:
    config = MixConfig(seconds=1.0, alone=0.0, gap_db=5.0, speed=0.1)
    mixer = SpectralMixer([generated_corpus(talkers=4, seconds=3.0)], config, 512, torch.device("cpu"))
    mixture, talkers = mixer.separation(7, 6)
    assert mixture.shape == (6, mixer.frames, 256, 2)
    assert talkers.shape == (6, 2, mixer.frames, 256, 2)
    torch.testing.assert_close(talkers.sum(1), mixture, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mixture.square().mean((1, 2, 3)), torch.full((6,), 0.5), rtol=1e-3, atol=0)
    power = talkers.square().mean((2, 3, 4))
    gap = 10 * (power[:, 0] / power[:, 1]).log10()
    assert float(gap.abs().max()) <= 5.01
    again, _ = mixer.separation(7, 6)
    torch.testing.assert_close(again, mixture, rtol=0, atol=0)
    other, _ = mixer.separation(8, 6)
    assert not torch.equal(other, mixture)
    quiet, sources = SpectralMixer(
        [generated_corpus(talkers=4, seconds=3.0)],
        MixConfig(seconds=1.0, alone=1.0),
        512,
        torch.device("cpu"),
    ).separation(1, 3)
    assert float(sources[:, 1].abs().max()) == 0
    torch.testing.assert_close(sources[:, 0], quiet, rtol=1e-4, atol=1e-4)


def test_formants_move_and_the_harmonics_stay() -> None:
    config = MixConfig(seconds=1.0, equalise=0.0, speed=0.0)
    corpora = [generated_corpus(talkers=2, seconds=3.0)]
    plain = SpectralMixer(corpora, config, 1024, torch.device("cpu"))
    moving = SpectralMixer(corpora, replace(config, formants=0.2), 1024, torch.device("cpu"))
    rows = torch.tensor([0, 0, 1, 1])
    before = plain.cut(rows, torch.Generator().manual_seed(4))
    after = moving.cut(rows, torch.Generator().manual_seed(4))
    gain = after[..., 0] / before[..., 0].where(before[..., 0].abs() > 1e-3, 1.0)
    told = before[..., 0].abs() > 1e-3
    assert float(gain[told].min()) > 0  # phases are those of the voice
    assert math.exp(-2) * 0.99 < float(gain[told].min()) < 0.9
    assert 1.1 < float(gain[told].max()) < math.exp(2) * 1.01
    steps = gain.log().where(told, 0.0).diff(dim=2).abs()  # a smooth curve: no harmonic is touched alone
    assert float(steps.where(told[..., 1:] & told[..., :-1], 0.0).max()) < 0.35


def test_the_loop_on_a_gpu_has_the_numbers_of_the_plain_one() -> None:
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-c", FUSED],
        env={**os.environ, "TRITON_INTERPRET": "1"},  # must be chosen before triton is imported
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]


FUSED = """
import torch
from torch.testing import assert_close
from core.units.gated.lstm import LSTM
from core.blocks.directions import run_directions
from speech.models import bf16_lstm_gpu as fused
from speech.models.bf16_lstm_gpu import FusedLSTM

torch.manual_seed(0)
for batch, time, width, hidden, ways in ((18, 5, 3, 20, 2), (2, 1, 4, 16, 1)):
    units = [LSTM(width, hidden) for _ in range(ways)]
    x = torch.randn(batch, time, width, requires_grad=True)
    weights = [p for unit in units for p in unit.parameters()]
    weight = torch.linspace(-1, 1, batch * time * ways * hidden).view(batch, time, -1)
    y, final = run_directions(units, x)
    expected = torch.autograd.grad((y * weight).sum(), [x, *weights])
    stacked = [torch.stack([getattr(u, n) for u in units]) for n in ("weight_ih", "weight_hh")]
    bias = torch.stack([unit.bias_ih + unit.bias_hh for unit in units])
    out, cells = FusedLSTM.apply(x.half(), *stacked, bias)  # the interpreter has no bfloat16
    assert_close(out.float(), y, rtol=0, atol=4e-3)
    for way in range(ways):
        assert_close(cells[:, 0 if way else -1, way], final[way][1], rtol=0, atol=4e-3)
    found = torch.autograd.grad((out.float() * weight).sum(), [x, *weights])
    for a, b in zip(found, expected):
        assert_close(a, b, rtol=0, atol=8e-3 * (1 + float(b.abs().max())))
    norm = torch.nn.LayerNorm(width)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-1, 1)
    y, _ = run_directions(units, norm(x))
    leaves = [x, *norm.parameters(), *weights]
    expected = torch.autograd.grad((y * weight).sum(), leaves)
    fused.torch.Tensor.bfloat16 = torch.Tensor.half
    out, _ = fused.train_directions(units, x, norm)
    assert_close(out.float(), y, rtol=0, atol=4e-3)
    found = torch.autograd.grad((out.float() * weight).sum(), leaves)
    for a, b in zip(found, expected):
        assert_close(a, b, rtol=0, atol=2e-2 * (1 + float(b.abs().max())))
"""
