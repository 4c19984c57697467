"""Conv-TasNet (Luo & Mesgarani 2019, arXiv 1809.07454): a learned filterbank and dilated convolutions.

    w = encoder(wave);  masks from 1x1 -> blocks with dilation 1, 2, 4, ... repeated -> sum of skips
    block: 1x1, PReLU, norm, depthwise, PReLU, norm -> residual and skip;  wave_s = decoder(mask_s w)

In the names of asteroid (`ConvTasNet`) and of torchaudio (`AudioConvTasNet`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speech.models.parts import CumulativeNorm, Decoder, Encoder, GlobalNorm, as_long_as, long_enough


class TemporalBlock(nn.Module):
    """x (B, C, T) -> what is added to it, and what goes to the sum."""

    def __init__(
        self, channels: int, hidden: int, skip: int, kernel: int, dilation: int, causal: bool
    ) -> None:
        super().__init__()
        reach = (kernel - 1) * dilation
        self.pad = (reach, 0) if causal else (reach // 2, reach - reach // 2)
        norm = CumulativeNorm if causal else GlobalNorm
        self.shared_block = nn.Sequential(
            nn.Conv1d(channels, hidden, 1),
            nn.PReLU(),
            norm(hidden),
            nn.Conv1d(hidden, hidden, kernel, dilation=dilation, groups=hidden),
            nn.PReLU(),
            norm(hidden),
        )
        self.res_conv = nn.Conv1d(hidden, channels, 1)
        self.skip_conv = nn.Conv1d(hidden, skip, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for index, layer in enumerate(self.shared_block):
            x = layer(F.pad(x, self.pad) if index == 3 else x)
        return self.res_conv(x), self.skip_conv(x)


class TemporalMasker(nn.Module):
    """w (B, F, T) -> masks (B, S, F, T)."""

    def __init__(
        self,
        filters: int,
        talkers: int,
        blocks: int,
        repeats: int,
        channels: int,
        hidden: int,
        skip: int,
        kernel: int,
        causal: bool,
    ) -> None:
        super().__init__()
        self.talkers = talkers
        norm = CumulativeNorm if causal else GlobalNorm
        self.bottleneck = nn.Sequential(norm(filters), nn.Conv1d(filters, channels, 1))
        self.TCN = nn.ModuleList(
            TemporalBlock(channels, hidden, skip, kernel, 2**x, causal)
            for _ in range(repeats)
            for x in range(blocks)
        )
        self.mask_net = nn.Sequential(nn.PReLU(), nn.Conv1d(skip, talkers * filters, 1))

    def forward(self, w: Tensor) -> Tensor:
        x = self.bottleneck(w)
        total: Tensor | float = 0.0
        for block in self.TCN:
            residual, skip = block(x)
            x, total = x + residual, total + skip
        return self.mask_net(total).unflatten(1, (self.talkers, -1)).sigmoid()


class ConvTasNet(nn.Module):
    """Waves (B, N) -> (B, S, N)."""

    def __init__(
        self,
        n_src: int = 2,
        n_blocks: int = 8,
        n_repeats: int = 3,
        bn_chan: int = 128,
        hid_chan: int = 512,
        skip_chan: int = 128,
        n_filters: int = 512,
        kernel_size: int = 16,
        stride: int = 8,
        sample_rate: int = 8000,
        conv_kernel_size: int = 3,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.kernel, self.talkers, self.rate = kernel_size, n_src, sample_rate
        self.encoder = Encoder(n_filters, kernel_size, stride)
        self.masker = TemporalMasker(
            n_filters, n_src, n_blocks, n_repeats, bn_chan, hid_chan, skip_chan, conv_kernel_size, causal
        )
        self.decoder = Decoder(n_filters, kernel_size, stride)

    def forward(self, wave: Tensor) -> Tensor:
        w = self.encoder(long_enough(wave, self.kernel))
        masked = self.masker(w) * w[:, None]  # (B, S, F, T)
        waves = self.decoder(masked.flatten(0, 1))
        return as_long_as(waves.unflatten(0, (-1, self.talkers)), wave.shape[-1])


class AudioBlock(nn.Module):
    """The same block in torchaudio's names; the last one adds nothing to the path."""

    def __init__(self, channels: int, hidden: int, kernel: int, dilation: int, last: bool) -> None:
        super().__init__()
        pad = dilation * (kernel - 1) // 2
        self.conv_layers = nn.Sequential(
            nn.Conv1d(channels, hidden, 1),
            nn.PReLU(),
            nn.GroupNorm(1, hidden, eps=1e-8),
            nn.Conv1d(hidden, hidden, kernel, padding=pad, dilation=dilation, groups=hidden),
            nn.PReLU(),
            nn.GroupNorm(1, hidden, eps=1e-8),
        )
        self.res_out = None if last else nn.Conv1d(hidden, channels, 1)
        self.skip_out = nn.Conv1d(hidden, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor]:
        x = self.conv_layers(x)
        return None if self.res_out is None else self.res_out(x), self.skip_out(x)


class MaskGenerator(nn.Module):
    """w (B, F, T) -> masks (B, S, F, T)."""

    def __init__(
        self, filters: int, talkers: int, kernel: int, channels: int, hidden: int, layers: int, stacks: int
    ) -> None:
        super().__init__()
        self.talkers = talkers
        self.input_norm = nn.GroupNorm(1, filters, eps=1e-8)
        self.input_conv = nn.Conv1d(filters, channels, 1)
        count = layers * stacks
        self.conv_layers = nn.ModuleList(
            AudioBlock(channels, hidden, kernel, 2 ** (i % layers), i == count - 1) for i in range(count)
        )
        self.output_prelu = nn.PReLU()
        self.output_conv = nn.Conv1d(channels, filters * talkers, 1)

    def forward(self, w: Tensor) -> Tensor:
        x = self.input_conv(self.input_norm(w))
        total: Tensor | float = 0.0
        for block in self.conv_layers:
            residual, skip = block(x)
            x = x if residual is None else x + residual
            total = total + skip
        return self.output_conv(self.output_prelu(total)).sigmoid().unflatten(1, (self.talkers, -1))


class AudioConvTasNet(nn.Module):
    """Conv-TasNet as torchaudio has it: waves (B, N) or (B, 1, N) -> (B, S, N)."""

    def __init__(
        self,
        num_sources: int = 2,
        enc_kernel_size: int = 16,
        enc_num_feats: int = 512,
        msk_kernel_size: int = 3,
        msk_num_feats: int = 128,
        msk_num_hidden_feats: int = 512,
        msk_num_layers: int = 8,
        msk_num_stacks: int = 3,
    ) -> None:
        super().__init__()
        self.talkers, self.stride, self.odd = num_sources, enc_kernel_size // 2, enc_kernel_size % 2
        geometry = {"stride": self.stride, "padding": self.stride, "bias": False}
        self.encoder = nn.Conv1d(1, enc_num_feats, enc_kernel_size, **geometry)
        self.mask_generator = MaskGenerator(
            enc_num_feats,
            num_sources,
            msk_kernel_size,
            msk_num_feats,
            msk_num_hidden_feats,
            msk_num_layers,
            msk_num_stacks,
        )
        self.decoder = nn.ConvTranspose1d(enc_num_feats, 1, enc_kernel_size, **geometry)

    def forward(self, wave: Tensor) -> Tensor:
        wave = wave if wave.ndim == 3 else wave[:, None]
        samples = wave.shape[-1]
        padded = F.pad(wave, (0, -(samples - self.odd) % self.stride))
        w = self.encoder(padded)
        masked = self.mask_generator(w) * w[:, None]
        waves = self.decoder(masked.flatten(0, 1))[:, 0].unflatten(0, (-1, self.talkers))
        return torch.narrow(waves, -1, 0, samples)
