"""MossFormer2 (Zhao et al. 2024, arXiv 2312.11825): gated attention and a gated FSMN memory in turn.

    layer   u, v = ConvBlock(shifted x);  q, k twice from one ConvBlock by scale and offset, rotated
            local   relu(q k^T / g)^2 inside groups of g frames;  global  q (sum k^T y / n)
            o = (a_u v) sigmoid(a_v u);  x + ConvBlock(o)
    memory  x + W (v * FSMN(u) + c),  c = norm PReLU(W x)

In the names of ClearerVoice-Studio: `MossFormer2` separates (two or three talkers, 8 or 16 kHz),
`SpectrumMask` is the network of the 48 kHz enhancement, `MossFormer2SE` the whole of it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from speech.models import mossformer2_cpu
from speech.models.depthwise import compiled_here
from speech.models.fsmn_memory import DenseFsmn, Fsmn
from speech.models.parts import as_long_as, long_enough
from speech.models.sepformer import FilterEncoder, added_up, pointwise, whole_norm

INNER = 256
"""Width of the memory, whatever that of the network is."""


def each(work: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Work on the rows (S, D) of x (B, S, D), one recording at a time."""
    return work(x[0])[None] if len(x) == 1 else torch.stack([work(row) for row in x])


class ScaleNorm(nn.Module):
    """g x / max(|x| D^-0.5, eps)."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.scale, self.eps = width**-0.5, eps
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.norm(dim=-1, keepdim=True) * self.scale).clamp(min=self.eps) * self.g


class Depthwise(nn.Module):
    """x + depthwise convolution over 17 frames: (B, S, D). Causal: only of the past."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.pad = (16, 0) if causal else (8, 8)
        inner = nn.Module()
        inner.conv = nn.Conv1d(width, width, 17, groups=width, bias=False)
        self.sequential = nn.Sequential(nn.Identity(), inner)

    def forward(self, x: Tensor) -> Tensor:
        conv: Any = self.sequential[1].conv
        return x + conv(F.pad(x.transpose(1, 2), self.pad)).transpose(1, 2)


class ConvBlock(nn.Module):
    """norm -> linear -> SiLU -> x + depthwise."""

    def __init__(self, inputs: int, outputs: int, norm: nn.Module, causal: bool = False) -> None:
        super().__init__()
        self.mdl = nn.Sequential(
            norm, nn.Linear(inputs, outputs), nn.SiLU(), Depthwise(outputs, causal), nn.Dropout(0.0)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mdl(x)


class Offsets(nn.Module):
    """Four queries and keys from one: x gamma + beta."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.gamma = nn.Parameter(0.02 * torch.randn(heads, width))
        self.beta = nn.Parameter(torch.zeros(heads, width))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x[..., None, :] * self.gamma + self.beta).unbind(-2)


class Rotary(nn.Module):
    """Turns the first features in neighbouring pairs; the frequencies are stored in the checkpoint."""

    freqs: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 10000.0 ** -(torch.arange(0, width, 2).float() / width))

    def forward(self, x: Tensor) -> Tensor:
        width = 2 * len(self.freqs)
        angle = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)[:, None] * self.freqs
        a, b = x[..., :width:2], x[..., 1:width:2]
        turned = torch.stack([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)
        return torch.cat([turned.flatten(-2), x[..., width:]], -1)


class GatedAttention(nn.Module):
    """One layer on (B, S, D). `causal` concerns the attention; `causal_conv` the convolutions, too."""

    def __init__(
        self,
        dim: int,
        group_size: int = 256,
        query_key_dim: int = 128,
        expansion_factor: float = 4.0,
        causal: bool = False,
        causal_conv: bool = False,
    ) -> None:
        super().__init__()
        self.group, self.causal = group_size, causal
        hidden = int(dim * expansion_factor)
        self.rotary_pos_emb = Rotary(min(32, query_key_dim))
        self.to_hidden = ConvBlock(dim, hidden, ScaleNorm(dim), causal_conv)
        self.to_qk = ConvBlock(dim, query_key_dim, ScaleNorm(dim), causal_conv)
        self.qk_offset_scale = Offsets(query_key_dim)
        self.to_out = ConvBlock(hidden // 2, dim, ScaleNorm(hidden // 2), causal_conv)

    def forward(self, x: Tensor) -> Tensor:
        if compiled_here(x) and not self.causal:
            return each(partial(mossformer2_cpu.attention, self), x)
        shifted, still = x.chunk(2, -1)
        y = torch.cat([F.pad(shifted, (0, 0, 1, -1)), still], -1)
        v, u = self.to_hidden(y).chunk(2, -1)
        offsets = self.qk_offset_scale(self.to_qk(y))
        quad_q, lin_q, quad_k, lin_k = [self.rotary_pos_emb(part) for part in offsets]
        a_v, a_u = self.attention(quad_q, lin_q, quad_k, lin_k, torch.cat([v, u], -1)).chunk(2, -1)
        return x + self.to_out(a_u * v * (a_v * u).sigmoid())

    def attention(self, quad_q: Tensor, lin_q: Tensor, quad_k: Tensor, lin_k: Tensor, y: Tensor) -> Tensor:
        """Both values side by side: local inside groups, plus global over all (causal: earlier) groups."""
        frames, g = y.shape[1], self.group

        def groups(part: Tensor) -> Tensor:  # (B, G, g, D)
            return F.pad(part, (0, 0, 0, -frames % g)).unflatten(1, (-1, g))

        quad_q, lin_q, quad_k, lin_k, y = map(groups, (quad_q, lin_q, quad_k, lin_k, y))
        weights = (quad_q @ quad_k.transpose(-1, -2) / g).relu().square()
        if self.causal:
            weights = weights.tril()
            sums = (lin_k.transpose(-1, -2) @ y / g).cumsum(1)
            known = F.pad(sums, (0, 0, 0, 0, 1, -1))  # a group sees those before it
        else:
            known = torch.einsum("bgnd,bgne->bde", lin_k, y)[:, None] / frames
        return (weights @ y + lin_q @ known).flatten(1, 2)[:, :frames]


class GatedUnit(nn.Module):
    """v FSMN(u) + x on (B, S, 256)."""

    def __init__(self, dense: bool) -> None:
        super().__init__()
        self.to_u = ConvBlock(INNER, INNER, nn.LayerNorm(INNER))
        self.to_v = ConvBlock(INNER, INNER, nn.LayerNorm(INNER))
        self.fsmn = DenseFsmn(INNER) if dense else Fsmn(INNER)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_v(x) * self.fsmn(self.to_u(x)) + x


class RecurrentBlock(nn.Module):
    """x + W norm(GatedUnit(norm PReLU(W x))): (B, S, D)."""

    def __init__(self, width: int, dense: bool) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv1d(width, INNER, 1), nn.PReLU())
        self.norm1 = nn.LayerNorm(INNER)
        self.gated_fsmn = GatedUnit(dense)
        self.norm2 = nn.LayerNorm(INNER)
        self.conv2 = nn.Conv1d(INNER, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        if compiled_here(x):
            return each(partial(mossformer2_cpu.memory, self), x)
        y = self.norm1(self.conv1(x.transpose(1, 2)).transpose(1, 2))
        return x + self.conv2(self.norm2(self.gated_fsmn(y)).transpose(1, 2)).transpose(1, 2)


class Pairs(nn.Module):
    """Attention and memory in turn."""

    def __init__(self, width: int, blocks: int, dense: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GatedAttention(width) for _ in range(blocks))
        self.fsmn = nn.ModuleList(RecurrentBlock(width, dense) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        for layer, memory in zip(self.layers, self.fsmn, strict=True):
            x = memory(layer(x))
        return x


class Stack(nn.Module):
    """The pairs and a norm: (B, S, D)."""

    def __init__(self, width: int, blocks: int, dense: bool) -> None:
        super().__init__()
        self.mossformerM = Pairs(width, blocks, dense)
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.mossformerM(x))


class Computation(nn.Module):
    """x + norm(stack(x)) on (B, D, S)."""

    def __init__(self, width: int, blocks: int, dense: bool) -> None:
        super().__init__()
        self.intra_mdl = Stack(width, blocks, dense)
        self.intra_norm = nn.GroupNorm(1, width, eps=1e-8)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return (x + whole_norm(self.intra_norm, self.intra_mdl(x))).transpose(1, 2)


class Sinusoid(nn.Module):
    """Scaled sines, then cosines, of a frame's place: (S, D)."""

    inv_freq: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("inv_freq", 1.0 / (10000 ** (torch.arange(0, width, 2).float() / width)))

    def forward(self, x: Tensor) -> Tensor:
        angle = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype)[:, None] * self.inv_freq
        return torch.cat([angle.sin(), angle.cos()], -1) * self.scale


class MaskNet(nn.Module):
    """Features (B, N, S) -> masks, not negative: (talkers, B, O, S)."""

    def __init__(self, inputs: int, width: int, outputs: int, talkers: int, blocks: int, dense: bool) -> None:
        super().__init__()
        self.talkers = talkers
        self.norm = nn.GroupNorm(1, inputs, eps=1e-8)
        self.conv1d_encoder = nn.Conv1d(inputs, width, 1, bias=False)
        self.pos_enc = Sinusoid(width)
        self.mdl = Computation(width, blocks, dense)
        self.conv1d_out = nn.Conv1d(width, width * talkers, 1)
        self.conv1_decoder = nn.Conv1d(width, outputs, 1, bias=False)
        self.prelu = nn.PReLU()
        self.output = nn.Sequential(nn.Conv1d(width, width, 1), nn.Tanh())
        self.output_gate = nn.Sequential(nn.Conv1d(width, width, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1d_encoder(self.norm(x))
        x = self.prelu(self.mdl(x + self.pos_enc(x).T)).transpose(1, 2)
        x = pointwise(self.conv1d_out, x).unflatten(2, (self.talkers, -1))  # (B, S, talkers, D)
        x = pointwise(self.output[0], x).tanh() * pointwise(self.output_gate[0], x).sigmoid()
        return pointwise(self.conv1_decoder, x).relu().permute(2, 0, 3, 1)


class MossFormer2(nn.Module):
    """Waves (B, N) -> (B, S, N). `masks=False` decodes the network's output itself (the WHAMR model)."""

    def __init__(
        self,
        in_channels: int = 512,
        out_channels: int = 512,
        num_blocks: int = 24,
        kernel_size: int = 16,
        num_spks: int = 2,
        masks: bool = True,
    ) -> None:
        super().__init__()
        if in_channels != out_channels:
            raise ConfigError(f"in_channels ({in_channels}) must equal out_channels ({out_channels}).")
        self.kernel, self.talkers, self.masks = kernel_size, num_spks, masks
        self.enc = FilterEncoder(in_channels, kernel_size)
        self.mask_net = MaskNet(in_channels, out_channels, in_channels, num_spks, num_blocks, dense=True)
        self.dec = nn.ConvTranspose1d(in_channels, 1, kernel_size, stride=kernel_size // 2, bias=False)

    def forward(self, wave: Tensor) -> Tensor:
        w = self.enc(long_enough(wave, self.kernel))
        masked = self.mask_net(w)
        masked = masked * w if self.masks else masked  # (S, B, N, L)
        waves = added_up(self.dec, masked.flatten(0, 1)).unflatten(0, (self.talkers, -1))
        return as_long_as(waves.transpose(0, 1), wave.shape[-1])


class SpectrumMask(MaskNet):
    """Mask network of the 48 kHz model: features (B, N, S) -> (B, S, bins); its second output is unused."""

    def __init__(
        self,
        in_channels: int = 180,
        out_channels: int = 512,
        out_channels_final: int = 961,
        num_blocks: int = 24,
        num_spks: int = 2,
    ) -> None:
        super().__init__(in_channels, out_channels, out_channels_final, num_spks, num_blocks, dense=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0].transpose(1, 2)


class MossFormer2SE(nn.Module):
    """Waves (B, N) at 48 kHz in -1..1 -> clean ones (B, N)."""

    rate = 48000
    WINDOW, HOP = 1920, 384

    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.mossformer = SpectrumMask(**sizes)

    def forward(self, wave: Tensor) -> Tensor:
        samples = wave.shape[-1]
        whole = max(self.WINDOW, samples) + -(max(self.WINDOW, samples) - self.WINDOW) % self.HOP
        scaled = as_long_as(wave, whole) * 32768
        masks = self.mossformer(torch.stack([self.features(row) for row in scaled]).transpose(1, 2))
        clean = self.spectra(scaled) * masks.transpose(1, 2)
        return self.waves(clean, whole)[..., :samples] / 32768

    def fbank(self, wave: Tensor) -> Tensor:
        """60 log mel bands of a wave (N,) on the 16-bit scale, as Kaldi has them, without dither: (S, 60)."""
        from torchaudio.compliance import kaldi

        return kaldi.fbank(
            wave[None],
            dither=0.0,
            frame_length=40.0,
            frame_shift=8.0,
            num_mel_bins=60,
            sample_frequency=float(self.rate),
            window_type="hamming",
        )

    def features(self, wave: Tensor) -> Tensor:
        """The bands, their slopes and the slopes of these: (S, 180)."""
        from torchaudio.functional import compute_deltas

        bands = self.fbank(wave).T
        slopes = compute_deltas(bands)
        return torch.cat([bands, slopes, compute_deltas(slopes)]).T

    def window(self, like: Tensor) -> Tensor:
        return torch.hamming_window(self.WINDOW, periodic=False, device=like.device)

    def spectra(self, wave: Tensor) -> Tensor:
        """(B, N) -> complex (B, 961, S), no padding."""
        return torch.stft(
            wave,
            self.WINDOW,
            self.HOP,
            window=self.window(wave),
            center=False,
            return_complex=True,
        )

    def waves(self, spectra: Tensor, samples: int) -> Tensor:
        """The inverse, divided by the sum of squared windows."""
        frames = torch.fft.irfft(spectra.transpose(1, 2), n=self.WINDOW)  # (B, S, window)
        window = self.window(frames)
        total = (frames.shape[1] - 1) * self.HOP + self.WINDOW

        def added(parts: Tensor) -> Tensor:
            return F.fold(
                parts.transpose(1, 2),
                output_size=(1, total),
                kernel_size=(1, self.WINDOW),
                stride=(1, self.HOP),
            )[:, 0, 0]

        weight = added(window.square().expand(1, frames.shape[1], -1))
        return as_long_as(added(frames * window) / weight, samples)
