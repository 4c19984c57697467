"""GTCRN: grouped temporal convolutional recurrent network (Rong et al. 2024, ICASSP), causal, 16 kHz.

    features    |Y|, Re Y, Im Y; bins above 2 kHz in 64 bands; each band beside its neighbours
    encoder     two strided convolutions over bands, three grouped blocks with dilation 1, 2, 5 in time
    middle      twice: GRUs over the bands of a frame, then GRUs over time, in two groups
    decoder     the encoder mirrored with transposed convolutions, skips added
    mask        a complex factor in (-1, 1) for each bin

The names are those of the published checkpoints (MIT, Xiaobin-Rong/gtcrn). It was trained with the reflected
ends of `torch.stft(center=True)`, which it keeps here; frame by frame gives the same as a whole file.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from speech.features import root_hann
from speech.models.recurrence import Recurrence

LOW, BANDS, BINS = 65, 64, 257
MIDDLE = 33
"""Bands after the two strided convolutions."""


class ERB(nn.Module):
    """Bins 65 and up in 64 bands of equal loudness width, and back."""

    def __init__(self) -> None:
        super().__init__()
        filters = torch.from_numpy(erb_filters()).float()
        self.erb_fc = nn.Linear(BINS - LOW, BANDS, bias=False)
        self.ierb_fc = nn.Linear(BANDS, BINS - LOW, bias=False)
        with torch.no_grad():
            self.erb_fc.weight.copy_(filters)
            self.ierb_fc.weight.copy_(filters.T)
        self.requires_grad_(False)

    def down(self, x: Tensor) -> Tensor:
        """(..., 257) -> (..., 129)."""
        return torch.cat([x[..., :LOW], self.erb_fc(x[..., LOW:])], -1)

    def up(self, x: Tensor) -> Tensor:
        """(..., 129) -> (..., 257)."""
        return torch.cat([x[..., :LOW], self.ierb_fc(x[..., LOW:])], -1)


def erb_filters() -> np.ndarray:
    """Triangles between 64 points that are even on the ERB scale, (64, 192); columns add up to one."""

    def erb(f: float) -> float:
        return float(21.4 * np.log10(1 + 0.00437 * f))

    points = np.linspace(erb(LOW * 16000 / 512), erb(8000), BANDS)
    b = np.round((10 ** (points / 21.4) - 1) / 0.00437 / 16000 * 512).astype(int)
    filters = np.zeros((BANDS, BINS))
    filters[0, b[0] : b[1]] = (b[1] - np.arange(b[0], b[1])) / (b[1] - b[0])
    for i in range(BANDS - 2):
        filters[i + 1, b[i] : b[i + 1]] = (np.arange(b[i], b[i + 1]) - b[i]) / (b[i + 1] - b[i])
        filters[i + 1, b[i + 1] : b[i + 2]] = (b[i + 2] - np.arange(b[i + 1], b[i + 2])) / (
            b[i + 2] - b[i + 1]
        )
    filters[-1, b[-2] : b[-1] + 1] = 1 - filters[-2, b[-2] : b[-1] + 1]
    return np.abs(filters[:, LOW:])


def neighbours(x: Tensor) -> Tensor:
    """Each channel becomes three, its bands shifted by -1, 0, 1: (B, C, T, F) -> (B, 3 C, T, F)."""
    padded = F.pad(x, (1, 1))
    bands = x.shape[-1]
    return torch.stack([padded[..., k : k + bands] for k in range(3)], 2).flatten(1, 2)


class BandConv(nn.Module):
    """A strided convolution over bands, norm, and PReLU or tanh."""

    def __init__(self, inputs: int, outputs: int, groups: int, *, up: bool, last: bool = False) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if up else nn.Conv2d
        self.conv = kind(inputs, outputs, (1, 5), stride=(1, 2), padding=(0, 2), groups=groups)
        self.bn = nn.BatchNorm2d(outputs)
        self.act = nn.Tanh() if last else nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class TRA(nn.Module):
    """Temporal attention: a GRU over the energy of each channel weighs the channels of a frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.att_gru = Recurrence("gru", channels, 2 * channels)
        self.att_fc = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        energy = x.square().mean(-1).transpose(1, 2)  # (B, T, C)
        y, state = self.att_gru(energy, state)
        return x * self.att_fc(y).sigmoid().transpose(1, 2)[..., None], state


class GTConv(nn.Module):
    """Half of the channels go through a dilated depthwise convolution, then both halves are interleaved."""

    def __init__(self, dilation: int, *, up: bool) -> None:
        super().__init__()
        self.dilation, self.up = dilation, up
        kind = nn.ConvTranspose2d if up else nn.Conv2d
        self.point_conv1 = kind(24, 16, 1)
        self.point_bn1 = nn.BatchNorm2d(16)
        self.point_act = nn.PReLU()
        self.depth_conv = kind(16, 16, 3, groups=16)
        self.depth_bn = nn.BatchNorm2d(16)
        self.depth_act = nn.PReLU()
        self.point_conv2 = kind(16, 8, 1)
        self.point_bn2 = nn.BatchNorm2d(8)
        self.tra = TRA(8)

    def initial_state(self, x: Tensor) -> tuple[Tensor, Any]:
        batch = x.shape[0]
        past = x.new_zeros(batch, 16, 2 * self.dilation, MIDDLE)
        return past, self.tra.att_gru.initial_state(x.new_zeros(batch, 8))

    def forward(self, x: Tensor, state: tuple[Tensor, Any]) -> tuple[Tensor, tuple[Tensor, Any]]:
        past, attention = state
        a, b = x.chunk(2, 1)
        h = self.point_act(self.point_bn1(self.point_conv1(neighbours(a))))
        known = torch.cat([past, h], 2)  # zeros, not the response to silence, come before the first frame
        weight = self.depth_conv.weight
        # a transposed depthwise convolution at stride 1 is a plain one with both axes turned round
        weight = weight.flip(2, 3) if self.up else weight
        h = F.conv2d(
            F.pad(known, (1, 1)), weight, self.depth_conv.bias, dilation=(self.dilation, 1), groups=16
        )
        h = self.point_bn2(self.point_conv2(self.depth_act(self.depth_bn(h))))
        h, attention = self.tra(h, attention)
        y = torch.stack([h, b], 2).flatten(1, 2)
        return y, (known[:, :, known.shape[2] - 2 * self.dilation :], attention)


class GroupedGRU(nn.Module):
    """Two recurrences, each on its half of the channels."""

    def __init__(self, channels: int, hidden: int, directions: int) -> None:
        super().__init__()
        self.rnn1 = Recurrence("gru", channels // 2, hidden // 2, directions=directions)
        self.rnn2 = Recurrence("gru", channels // 2, hidden // 2, directions=directions)

    def initial_state(self, x: Tensor) -> tuple[Any, Any]:
        return self.rnn1.initial_state(x), self.rnn2.initial_state(x)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        first, second = x.chunk(2, -1)
        one, two = (None, None) if state is None else state
        a, one = self.rnn1(first, one)
        b, two = self.rnn2(second, two)
        return torch.cat([a, b], -1), (one, two)


class DPGRNN(nn.Module):
    """Grouped GRUs over the bands of a frame in both directions, then over time, each with its residual."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.intra_rnn = GroupedGRU(channels, channels // 2, directions=2)
        self.intra_fc = nn.Linear(channels, channels)
        self.intra_ln = nn.LayerNorm([MIDDLE, channels], eps=1e-8)
        self.inter_rnn = GroupedGRU(channels, channels, directions=1)
        self.inter_fc = nn.Linear(channels, channels)
        self.inter_ln = nn.LayerNorm([MIDDLE, channels], eps=1e-8)

    def initial_state(self, x: Tensor) -> Any:
        return self.inter_rnn.initial_state(x.new_zeros(x.shape[0] * MIDDLE, 1))

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        x = x.permute(0, 2, 3, 1)  # (B, T, F, C)
        batch, time = x.shape[:2]
        y, _ = self.intra_rnn(x.flatten(0, 1))
        x = x + self.intra_ln(self.intra_fc(y).view_as(x))
        tokens = x.transpose(1, 2).flatten(0, 1)  # (B F, T, C)
        y, state = self.inter_rnn(tokens, state)
        y = self.inter_fc(y).view(batch, MIDDLE, time, -1).transpose(1, 2)
        return (x + self.inter_ln(y)).permute(0, 3, 1, 2), state


class BandEncoder(nn.Module):
    """Its results are the skips of the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.en_convs = nn.ModuleList(
            [
                BandConv(9, 16, 1, up=False),
                BandConv(16, 16, 2, up=False),
                *(GTConv(dilation, up=False) for dilation in (1, 2, 5)),
            ]
        )


class BandDecoder(nn.Module):
    """The encoder mirrored."""

    def __init__(self) -> None:
        super().__init__()
        self.de_convs = nn.ModuleList(
            [
                *(GTConv(dilation, up=True) for dilation in (5, 2, 1)),
                BandConv(16, 16, 2, up=True),
                BandConv(16, 2, 1, up=True, last=True),
            ]
        )


class GTCRN(nn.Module):
    """Noisy waves (B, N) at 16 kHz -> clean ones (B, N). Streams on spectra as `EnhanceNet` does."""

    window, hop, bins, ends = 512, 256, BINS, "reflect"

    def __init__(self) -> None:
        super().__init__()
        self.input_size = self.output_size = 2 * BINS
        self.erb = ERB()
        self.encoder = BandEncoder()
        self.dpgrnn1 = DPGRNN()
        self.dpgrnn2 = DPGRNN()
        self.decoder = BandDecoder()

    def forward(self, wave: Tensor) -> Tensor:
        """Whole waves of more than 256 samples, with reflected ends."""
        window = root_hann(self.window, like=wave)
        options = {"n_fft": self.window, "hop_length": self.hop, "window": window}
        spectra = torch.stft(wave, **options, return_complex=True).transpose(1, 2)
        clean, _ = self.filter(spectra)
        return torch.istft(clean.transpose(1, 2), **options, length=wave.shape[-1])

    def initial_state(self, x: Tensor) -> dict[str, Any]:
        """State before the first frame of x (B, ...)."""
        like = torch.zeros(x.shape[0], 1, device=x.device)
        return {
            "encoder": tuple(block.initial_state(like) for block in self.encoder.en_convs[2:]),  # pyright: ignore
            "middle": (self.dpgrnn1.initial_state(like), self.dpgrnn2.initial_state(like)),
            "decoder": tuple(block.initial_state(like) for block in self.decoder.de_convs[:3]),  # pyright: ignore
        }

    def step(self, x: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """One frame: x (B, 2 F), real parts then imaginary ones -> the clean frame (B, 2 F)."""
        real, imaginary = x.view(len(x), 1, 2, BINS).unbind(2)
        mask, state = self.mask(real, imaginary, state)
        a, b = mask.unbind(1)
        clean = torch.cat([real * a - imaginary * b, real * b + imaginary * a], -1)
        return clean[:, 0], state

    def filter(self, spectra: Tensor, state: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Noisy spectra (B, T, F) and a state -> clean spectra and the state after the last frame."""
        state = self.initial_state(spectra) if state is None else state
        mask, state = self.mask(spectra.real, spectra.imag, state)
        return spectra * torch.complex(mask[:, 0], mask[:, 1]), state

    def mask(self, real: Tensor, imaginary: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Parts of spectra (B, T, F) -> real and imaginary part of the mask, (B, 2, T, F)."""
        magnitude = (real.square() + imaginary.square() + 1e-12).sqrt()
        x = neighbours(self.erb.down(torch.stack([magnitude, real, imaginary], 1)))
        skips, encoder = [], []
        for index, block in enumerate(self.encoder.en_convs):
            if index < 2:
                x = block(x)
            else:
                x, after = block(x, state["encoder"][index - 2])
                encoder.append(after)
            skips.append(x)
        x, one = self.dpgrnn1(x, state["middle"][0])
        x, two = self.dpgrnn2(x, state["middle"][1])
        decoder = []
        for index, block in enumerate(self.decoder.de_convs):
            x = x + skips[4 - index]
            if index < 3:
                x, after = block(x, state["decoder"][index])
                decoder.append(after)
            else:
                x = block(x)
        after = {"encoder": tuple(encoder), "middle": (one, two), "decoder": tuple(decoder)}
        return self.erb.up(x), after
