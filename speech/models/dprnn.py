"""Dual-path RNN (Luo et al. 2020, arXiv 1910.06379) in asteroid's names, with any core unit inside.

chunks of K frames, half overlapping: recurrence inside each chunk, then across the chunks, repeated
block: x + norm(W BiRNN(x along the chunk));  x + norm(W RNN(x across the chunks))
"""

from torch import Tensor, nn
from torch.nn import functional as F

from speech.models.parts import Decoder, Encoder, GlobalNorm, as_long_as, long_enough
from speech.models.recurrence import Recurrence


class Path(nn.Module):
    """The published name of a recurrent layer is `intra_RNN.rnn`."""

    def __init__(self, unit: str, channels: int, hidden: int, directions: int) -> None:
        super().__init__()
        self.rnn = Recurrence(unit, channels, hidden, directions=directions)


class DualPathBlock(nn.Module):
    """x (B, C, K, L): K frames in each of L chunks."""

    def __init__(self, unit: str, channels: int, hidden: int, directions: int) -> None:
        super().__init__()
        self.intra_RNN = Path(unit, channels, hidden, 2)
        self.intra_linear = nn.Linear(self.intra_RNN.rnn.output_size, channels)
        self.intra_norm = GlobalNorm(channels)
        self.inter_RNN = Path(unit, channels, hidden, directions)
        self.inter_linear = nn.Linear(self.inter_RNN.rnn.output_size, channels)
        self.inter_norm = GlobalNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        inside = x.permute(0, 3, 2, 1)  # (B, L, K, C)
        y, _ = self.intra_RNN.rnn(inside.flatten(0, 1))
        y = self.intra_linear(y).view_as(inside)
        x = x + self.intra_norm(y.permute(0, 3, 2, 1))
        across = x.permute(0, 2, 3, 1)  # (B, K, L, C)
        y, _ = self.inter_RNN.rnn(across.flatten(0, 1))
        y = self.inter_linear(y).view(across.shape)
        return x + self.inter_norm(y.permute(0, 3, 1, 2))


class DualPathMasker(nn.Module):
    """w (B, F, T) -> masks (B, S, F, T)."""

    def __init__(
        self,
        filters: int,
        talkers: int,
        channels: int,
        hidden: int,
        chunk: int,
        hop: int,
        repeats: int,
        unit: str,
        directions: int,
    ) -> None:
        super().__init__()
        self.talkers, self.chunk, self.hop = talkers, chunk, hop
        self.bottleneck = nn.Sequential(GlobalNorm(filters), nn.Conv1d(filters, channels, 1))
        self.net = nn.Sequential(*(DualPathBlock(unit, channels, hidden, directions) for _ in range(repeats)))
        self.first_out = nn.Sequential(nn.PReLU(), nn.Conv2d(channels, talkers * channels, 1))
        self.net_out = nn.Sequential(nn.Conv1d(channels, channels, 1), nn.Tanh())
        self.net_gate = nn.Sequential(nn.Conv1d(channels, channels, 1), nn.Sigmoid())
        self.mask_net = nn.Conv1d(channels, filters, 1, bias=False)

    def forward(self, w: Tensor) -> Tensor:
        x = self.bottleneck(w)
        time = x.shape[-1]
        geometry = {"kernel_size": (self.chunk, 1), "padding": (self.chunk, 0), "stride": (self.hop, 1)}
        x = F.unfold(x[..., None], **geometry).unflatten(1, (x.shape[1], self.chunk))  # (B, C, K, L)
        x = self.first_out(self.net(x)).unflatten(1, (self.talkers, -1)).flatten(0, 1)
        x = F.fold(x.flatten(1, 2), output_size=(time, 1), **geometry)[..., 0]
        x = self.mask_net(self.net_out(x) * self.net_gate(x))
        return x.unflatten(0, (-1, self.talkers)).sigmoid()


class DPRNN(nn.Module):
    """Waves (B, N) -> (B, S, N)."""

    def __init__(
        self,
        n_src: int = 2,
        bn_chan: int = 128,
        hid_size: int = 128,
        chunk_size: int = 100,
        hop_size: int | None = None,
        n_repeats: int = 6,
        n_filters: int = 64,
        kernel_size: int = 16,
        stride: int = 8,
        sample_rate: int = 8000,
        unit: str = "lstm",
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        self.kernel, self.talkers, self.rate = kernel_size, n_src, sample_rate
        hop = chunk_size // 2 if hop_size is None else hop_size
        self.encoder = Encoder(n_filters, kernel_size, stride)
        self.masker = DualPathMasker(
            n_filters, n_src, bn_chan, hid_size, chunk_size, hop, n_repeats, unit, 1 + bidirectional
        )
        self.decoder = Decoder(n_filters, kernel_size, stride)

    def forward(self, wave: Tensor) -> Tensor:
        w = self.encoder(long_enough(wave, self.kernel))
        masked = self.masker(w) * w[:, None]
        waves = self.decoder(masked.flatten(0, 1))
        return as_long_as(waves.unflatten(0, (-1, self.talkers)), wave.shape[-1])
