"""What training minimises: waveform and spectrum terms, and two after the measures of listening."""

from itertools import permutations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from speech.features import analyse, compressed, constant

WINDOW, HOP = 512, 256
"""Of the spectra that the perceptual terms were tuned on, at 16 kHz."""
SILENT = 1e-8
"""Mean square below which a reference counts as silence."""


def si_sdr(estimate: Tensor, clean: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale-invariant ratio in dB of (..., N), means removed (Le Roux et al. 2019, arXiv 1811.02508)."""
    estimate = estimate - estimate.mean(-1, keepdim=True)
    clean = clean - clean.mean(-1, keepdim=True)
    energy = clean.square().sum(-1, keepdim=True)
    target = (estimate * clean).sum(-1, keepdim=True) / (energy + eps) * clean
    error = estimate - target
    return 10 * ((target.square().sum(-1) + eps) / (error.square().sum(-1) + eps)).log10()


def best_order(pairwise: Tensor) -> Tensor:
    """The order of estimates with the least mean loss: (B, S estimates, S sources) -> (B, S).

    Column s of the answer is the estimate for source s. Every order is tried up to four; above that the
    assignment problem is solved (Kuhn 1955).
    """
    sources = pairwise.shape[-1]
    if sources > 4:
        from scipy.optimize import linear_sum_assignment

        chosen = [linear_sum_assignment(table.T)[1] for table in pairwise.detach().cpu().numpy()]
        return torch.as_tensor(np.stack(chosen), device=pairwise.device)
    orders = all_orders(sources, like=pairwise).long()  # (P, S)
    costs = pairwise[:, orders, torch.arange(sources, device=pairwise.device)].mean(-1)  # (B, P)
    return orders[costs.argmin(-1)]


@constant
def all_orders(sources: int) -> Tensor:
    """Every permutation of so many, (S!, S)."""
    return torch.tensor(list(permutations(range(sources))))


def separation_loss(estimates: Tensor, sources: Tensor, mixture: Tensor, cap: float = 30.0) -> Tensor:
    """Negative SI-SDR in the best order, capped, and the distance of compressed magnitudes in that order.

    estimates, sources (B, S, N), mixture (B, N). A silent source asks for an output 40 dB below the mixture
    instead, and takes no part in the rest.
    """
    quiet = sources.square().mean(-1) < SILENT  # (B, S)
    loud = mixture.square().mean(-1)[:, None] + 1e-8
    output = 10 * (estimates.square().mean(-1) / loud + 1e-6).log10()  # (B, S) dB re mixture
    ratio = si_sdr(estimates[:, :, None], sources[:, None]).clamp(max=cap)  # (B, S, S)
    hush = (output + 40).clamp(min=0)[:, :, None].expand_as(ratio)
    order = best_order(torch.where(quiet[:, None], hush, -ratio).detach())
    rows = torch.arange(len(order), device=order.device)[:, None]
    matched = estimates[rows, order]
    wave = torch.where(
        quiet, 0.5 * (output.gather(1, order) + 40).clamp(min=0), -cap_softly(matched, sources, cap)
    )
    size = mixture.square().mean(-1).clamp(min=SILENT).sqrt()[:, None, None]
    a, _ = compressed(analyse((matched / size).flatten(0, 1), WINDOW, HOP))
    b, _ = compressed(analyse((sources / size).flatten(0, 1), WINDOW, HOP))
    return wave.mean() + 2.0 * (a - b).abs().mean()


def spectral_separation_loss(tracks: Tensor, sources: Tensor, cap: float = 30.0) -> Tensor:
    """Negative SI-SDR of spectra in the best order, capped: (B, S, T, F, 2) each, real and imaginary parts.

    Overlapped windows add up to the wave with equal weights, so inner products of spectra stand for those of
    waves and nothing need be synthesised. Where all sources but one are silent, the other outputs are asked
    to lie 40 dB below it instead.
    """
    estimate, truth = (part.flatten(2).float() for part in (tracks, sources))
    with torch.autocast(estimate.device.type, enabled=False):  # differences of these are small
        product = torch.bmm(estimate, truth.transpose(1, 2))  # (B, S estimates, S sources)
    own, wanted = estimate.square().sum(-1), truth.square().sum(-1)
    target = product.square() / (wanted + 1e-9)[:, None]
    error = (own[:, :, None] - target).clamp(min=0) + 10 ** (-cap / 10) * target
    ratio = 10 * ((target + 1e-9) / (error + 1e-9)).log10()
    order = best_order(-ratio.detach())
    together = ratio.gather(1, order[:, None]).mean((1, 2))
    alone = (wanted > 1e-6 * wanted.amax(1, keepdim=True)).sum(1) == 1
    largest = own.amax(1)
    rest = 10 * ((own.sum(1) - largest) / (own.sum(1) + wanted.sum(1)) + 1e-5).log10()
    return torch.where(alone, 0.5 * (rest + 40).clamp(min=0), -together).mean()


def cap_softly(estimate: Tensor, clean: Tensor, cap: float) -> Tensor:
    """SI-SDR whose error cannot fall below `cap` dB under the target: no reward beyond it."""
    floor = 10 ** (-cap / 10)
    estimate = estimate - estimate.mean(-1, keepdim=True)
    clean = clean - clean.mean(-1, keepdim=True)
    energy = clean.square().sum(-1, keepdim=True)
    target = (estimate * clean).sum(-1, keepdim=True) / (energy + 1e-8) * clean
    power = target.square().sum(-1)
    return 10 * ((power + 1e-8) / ((estimate - target).square().sum(-1) + floor * power + 1e-8)).log10()


def enhancement_loss(estimate: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """Spectrum, loudness, intelligibility and waveform terms of (B, N) at 16 kHz, each item at its own level.

    The weights are those that were measured best together: PESQ and STOI rise, SI-SDR keeps the phase.
    """
    active = active_rms(clean)
    estimate, clean = estimate / active, clean / active
    spectrum, target = analyse(estimate, WINDOW, HOP), analyse(clean, WINDOW, HOP)
    parts = {
        "spectrum": spectrum_distance(spectrum, target),
        "loudness": loudness_distance(spectrum, target),
        "envelope": envelope_distance(spectrum, target),
        "si_sdr": cap_softly(estimate, clean, 25.0).mean(),
    }
    loss = parts["spectrum"] + 4 * parts["loudness"] + 8 * parts["envelope"] - 0.1 * parts["si_sdr"]
    return {"loss": loss, **parts}


def active_rms(wave: Tensor) -> Tensor:
    """Root mean square of the frames within 30 dB of the loudest, (B, N) -> (B, 1)."""
    frames = F.pad(wave, (0, -wave.shape[-1] % HOP)).unflatten(-1, (-1, HOP)).square().mean(-1)
    loud = frames >= 1e-3 * frames.amax(-1, keepdim=True)
    mean = (frames * loud).sum(-1, keepdim=True) / loud.sum(-1, keepdim=True)
    return mean.clamp(min=SILENT).sqrt()


def spectrum_distance(estimate: Tensor, clean: Tensor) -> Tensor:
    """7 |compressed magnitudes|^2 + 3 |compressed complex spectra|^2, power 0.3 (Braun & Tashev 2021)."""
    a, x = compressed(estimate)
    b, y = compressed(clean)
    complex_part = (x.real - y.real).square() + (x.imag - y.imag).square()
    return 7 * (a - b).square().mean() + 3 * complex_part.mean()


@constant
def bark_bands() -> Tensor:
    """Triangles every 0.45 Bark (z = 6 asinh(f / 600)) over 257 bins; a last row of thresholds in quiet."""
    frequency = np.arange(257) * 16000 / 512
    z = 6 * np.arcsinh(frequency / 600)
    centres = np.arange(0.6, 19.7, 0.45)
    triangles = np.clip(1 - np.abs(z[:, None] - centres) / 0.45, 0, None)
    khz = 0.6 * np.sinh(centres / 6)
    quiet = 3.64 * khz**-0.8 - 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    return torch.from_numpy(np.concatenate([triangles, 10 ** (quiet[None] / 10)]))


def loudness_distance(estimate: Tensor, clean: Tensor) -> Tensor:
    """How far PESQ's own model of loudness is from its best, about 4.5 - PESQ (ITU-T P.862, simplified).

    Complex spectra (B, T, 257) of waves whose clean part has an active RMS of 1, heard at 79 dB.
    """
    triangles, quiet = bark_bands(like=estimate).split([257, 1])
    scale = 10**7.9 / (257 * 256)
    heard = [
        scale * (part.real.square() + part.imag.square()) @ triangles for part in (estimate, clean)
    ]  # (B, T, bands) each
    sone = [
        0.1866 * (quiet / 0.5) ** 0.23 * ((0.5 + 0.5 * power / quiet) ** 0.23 - 1).clamp(min=0)
        for power in heard
    ]
    with torch.no_grad():  # added parts hurt more than missing ones
        ratio = ((heard[0] + 50) / (heard[1] + 50)) ** 1.2
        asymmetry = torch.where(ratio < 3, 0.0, ratio.clamp(max=12))
        weight = ((heard[1].sum(-1) + 1e5) / 1e7) ** 0.04
    difference = ((sone[0] - sone[1]).abs() - 0.25 * torch.minimum(*sone)).clamp(min=0)
    symmetric = 20 * (difference.square().mean(-1) + 1e-8).sqrt()
    added = 20 * (difference * asymmetry).mean(-1)
    symmetric, added = symmetric.clamp(max=45) / weight, added.clamp(max=45) / weight

    def over_time(x: Tensor) -> Tensor:
        return (x.square().mean(-1) + 1e-8).sqrt()

    return (0.1 * over_time(symmetric) + 0.0309 * over_time(added)).mean()


@constant
def third_octaves() -> Tensor:
    """15 bands a third of an octave wide from 150 Hz, over 257 bins."""
    frequency = np.arange(257) * 16000 / 512
    centres = 150 * 2 ** (np.arange(15) / 3)
    inside = (frequency[:, None] >= centres * 2 ** (-1 / 6)) & (frequency[:, None] < centres * 2 ** (1 / 6))
    return torch.from_numpy(inside.astype(np.float64))


def envelope_distance(estimate: Tensor, clean: Tensor, length: int = 24, stride: int = 4) -> Tensor:
    """One minus the correlation of band envelopes over 0.4 s, as STOI does it (Taal et al. 2011).

    Complex spectra (B, T, 257). Segments count by the share of their frames within 40 dB of the loudest.
    """
    bands = third_octaves(like=estimate)
    powers = [(part.real.square() + part.imag.square()) for part in (estimate, clean)]
    envelopes = [(power @ bands + 1e-8).sqrt() for power in powers]  # (B, T, 15)
    if envelopes[0].shape[1] < length:
        envelopes = [F.pad(e, (0, 0, 0, length - e.shape[1]), value=1e-4) for e in envelopes]
    heard, truth = (e.unfold(1, length, stride) for e in envelopes)  # (B, M, 15, length)
    frame = powers[1].sum(-1)
    frame = F.pad(frame, (0, max(0, length - frame.shape[1])))
    alive = (frame >= 1e-4 * frame.amax(-1, keepdim=True)).float().unfold(1, length, stride).mean(-1)
    weight = alive.square()[..., None]  # (B, M, 1)
    gain = (truth.square().sum(-1, keepdim=True) / heard.square().sum(-1, keepdim=True)).sqrt()
    heard = torch.minimum(heard * gain, truth * (1 + 10**0.75))
    heard = heard - heard.mean(-1, keepdim=True)
    truth = truth - truth.mean(-1, keepdim=True)
    norm = (heard.square().sum(-1) + 1e-8).sqrt() * (truth.square().sum(-1) + 1e-8).sqrt()
    correlation = (heard * truth).sum(-1) / norm  # (B, M, 15)
    return ((1 - correlation) * weight).sum() / (weight.sum() * 15 + 1e-8)
