"""Networks that spell: an encoder of the line, a decoder of characters, and CTC on the encoder beside it.

    loss = w CTC(encoder) + (1 - w) cross entropy(decoder)

seq2seq: our convolutions, two bidirectional units, LSTM with attention (Michael et al. 2019). r2am: recursive
convolutions, two stacked LSTMs with attention (Lee & Osindero 2016). master: convolutions with multi-aspect
context, three-layer decoder (Lu et al. 2021). nrtr: two strided convolutions and a transformer (Sheng et al.
2019). The backbone of MASTER, the widths of R2AM and the whole of NRTR come without a table of keys: ours.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.ctc.loss import ctc_loss
from vision.ocr.config import ModelConfig
from vision.ocr.models.decoders import AttentionLSTM, CachedDecoder, EncoderLayer
from vision.ocr.models.lines import LineNetwork
from vision.ocr.models.master import MultiAspectGCAttention, Position
from vision.ocr.models.parts import BothWays, beyond, conv_out
from vision.ocr.models.recursive import GatedRecurrentConv
from vision.ocr.models.spelling import Spelled, spelled

ROOM = 1.0
"""Characters a frame that a text may have: more is a loop."""


class LineEncoder(nn.Module):
    """Our line network without its head: (B, 1, H, W) -> H (B, T, D), lengths."""

    def __init__(self, config: ModelConfig, height: int) -> None:
        super().__init__()
        self.network = LineNetwork(config, 1)
        self.network.head, self.network.shortcut = nn.Identity(), None  # pyright: ignore
        self.size = self.network.sequence.output_size

    def frames(self, widths: Tensor) -> Tensor:
        return self.network.frames(widths)

    def forward(self, ink: Tensor, widths: Tensor) -> Tensor:
        return self.network(ink, widths)[0].transpose(0, 1)


class RecursiveEncoder(nn.Module):
    """Recursive convolutions with shared weights, then a bidirectional unit."""

    def __init__(self, config: ModelConfig, height: int) -> None:
        super().__init__()
        a, b, c = config.channels[0], config.channels[1], config.channels[-1]
        self.stem = nn.Conv2d(1, a, 3, padding=1)
        self.parts = nn.ModuleList(GatedRecurrentConv(i, o, 3) for i, o in ((a, a), (a, b), (b, c)))
        self.sequence = BothWays(config.unit, c, config.hidden, 1, 0.0)
        self.size = self.sequence.output_size

    def frames(self, widths: Tensor) -> Tensor:
        return conv_out(conv_out(widths, 2, 2, 0), 2, 2, 0)

    def forward(self, ink: Tensor, widths: Tensor) -> Tensor:
        half, lengths = conv_out(widths, 2, 2, 0), self.frames(widths)
        x = beyond(F.max_pool2d(self.stem(ink).relu(), 2), half)
        x = beyond(F.max_pool2d(self.parts[0](x), 2), lengths)
        x = beyond(F.max_pool2d(self.parts[1](x), (2, 1)), lengths)
        x = beyond(self.parts[2](x), lengths).amax(2).transpose(1, 2)  # (B, T, C)
        return self.sequence(x, lengths)


class ContextBlock(nn.Module):
    """Residual block with or without multi-aspect context."""

    def __init__(self, inputs: int, outputs: int, context: bool) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = (
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        ratio = max(0.0625, 1 / outputs)
        self.context = MultiAspectGCAttention(outputs, ratio, 8) if context else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (self.context(y) + self.shortcut(x)).relu()


class MasterEncoder(nn.Module):
    """Stages of 1, 2, 5 and 3 blocks, context in the first block of the last three: H/8 rows of W/4 frames.

    Rows follow each other in the memory. Lines are padded to one width by the reader, so a batch holds one.
    """

    def __init__(self, config: ModelConfig, height: int) -> None:
        super().__init__()
        width = config.hidden // 8 * 8 * 2
        a, b, c = max(8, width // 8), max(8, width // 4), max(8, width // 2)
        self.stem = nn.Sequential(*conv_norm(1, a), *conv_norm(a, b), nn.MaxPool2d(2))
        stages: list[nn.Module] = []
        before = b
        for number, (blocks, channels) in enumerate(((1, c), (2, c), (5, width), (3, width))):
            for block in range(blocks):
                stages.append(ContextBlock(before, channels, number > 0 and block == 0))
                before = channels
            stages += conv_norm(channels, channels)
            if number < 2:
                stages.append(nn.MaxPool2d(2 if number == 0 else (2, 1)))
        self.stages = nn.Sequential(*stages)
        self.position = Position(width)
        self.size, self.rows = width, height // 8

    def frames(self, widths: Tensor) -> Tensor:
        return widths // 4 * self.rows

    def forward(self, ink: Tensor, widths: Tensor) -> Tensor:
        x = self.stages(self.stem(ink))  # (B, C, H/8, W/4)
        return self.position(x.flatten(2).transpose(1, 2))


def conv_norm(inputs: int, outputs: int) -> list[nn.Module]:
    """3x3 convolution, BatchNorm, ReLU."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class TransformerEncoder(nn.Module):
    """Two convolutions of stride 2, the height in the channels, twice as many layers as the decoder has."""

    def __init__(self, config: ModelConfig, height: int) -> None:
        super().__init__()
        self.size = config.hidden // 8 * 8 * 2
        self.first = nn.Conv2d(1, 32, 3, 2, 1)
        self.second = nn.Conv2d(32, 64, 3, 2, 1)
        rows = ((height + 1) // 2 + 1) // 2
        self.into = nn.Linear(64 * rows, self.size)
        self.position = Position(self.size)
        self.layers = nn.ModuleList(
            EncoderLayer(self.size, 8, 2 * self.size) for _ in range(2 * config.layers)
        )
        self.norm = nn.LayerNorm(self.size)

    def frames(self, widths: Tensor) -> Tensor:
        return conv_out(conv_out(widths, 3, 2, 1), 3, 2, 1)

    def forward(self, ink: Tensor, widths: Tensor) -> Tensor:
        half, lengths = conv_out(widths, 3, 2, 1), self.frames(widths)
        x = beyond(self.first(ink).relu(), half)
        x = beyond(self.second(x).relu(), lengths).flatten(1, 2).transpose(1, 2)  # (B, T, C rows)
        x = self.position(self.into(x))
        seen = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[:, None, None]
        for layer in self.layers:
            x = layer(x, seen)
        return self.norm(x)


ENCODERS: dict[str, Any] = {
    "seq2seq": LineEncoder,
    "r2am": RecursiveEncoder,
    "master": MasterEncoder,
    "nrtr": TransformerEncoder,
}


class Speller(nn.Module):
    """ink (B, 1, H, W), widths (B,): `loss` to learn, `spell` to read; `outputs` counts the blank, too."""

    stride = 4

    def __init__(self, config: ModelConfig, outputs: int, height: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = ENCODERS[config.name](config, height)
        size = self.encoder.size
        if config.name in ("seq2seq", "r2am"):
            layers = 2 if config.name == "r2am" else 1
            kind = "content" if config.name == "r2am" else config.attention
            self.decoder: Any = AttentionLSTM(size, config.hidden, outputs, kind, layers)
        else:
            stacks, own = (config.layers, True) if config.name == "nrtr" else (3, False)
            self.decoder = CachedDecoder(size, 8, stacks, 2 * size, outputs, own_norms=own)
        self.ctc = nn.Linear(size, outputs) if config.ctc_weight and config.name != "master" else None
        self.start = outputs

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of lines of these widths."""
        return self.encoder.frames(widths)

    def encoded(self, ink: Tensor, widths: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Memory (B, T, D), lengths (B,), and what lies outside of each line (B, T)."""
        whole = torch.full((len(ink),), ink.shape[3])
        valid = (whole if widths is None else widths).to(ink.device)
        H: Tensor = self.encoder(ink, valid)
        lengths = self.frames(valid).clamp(1, H.shape[1])
        outside = torch.arange(H.shape[1], device=H.device) >= lengths[:, None]
        return H, lengths, outside

    def loss(
        self, ink: Tensor, widths: Tensor, targets: Tensor, target_lengths: tuple[int, ...]
    ) -> dict[str, Tensor]:
        """The hybrid loss per character of targets (B, L), padded with zeros."""
        H, lengths, outside = self.encoded(ink, widths)
        counts = torch.tensor(target_lengths, device=ink.device)
        begin = torch.full((len(ink), 1), self.start, device=ink.device)
        told = torch.cat([begin, targets], 1)
        asked = F.pad(targets, (0, 1))
        logits, penalty = self.decoder.teacher(H, outside, told)
        each = F.cross_entropy(logits.transpose(1, 2).float(), asked, reduction="none")
        inside = torch.arange(asked.shape[1], device=ink.device) <= counts[:, None]
        loss = (each * inside).sum() / inside.sum() + 0.1 * penalty
        impossible = loss.new_zeros(())
        if self.ctc is not None:
            side = ctc_loss(self.ctc(H).transpose(0, 1), targets, lengths, target_lengths)
            impossible = side.impossible
            weight = self.config.ctc_weight
            loss = weight * side.loss.sum() / counts.sum().clamp(min=1) + (1 - weight) * loss
        return {"loss": loss, "impossible": impossible}

    @torch.no_grad()
    def spell(self, ink: Tensor, widths: Tensor | None = None) -> list[Spelled]:
        """The text of each line."""
        H, lengths, outside = self.encoded(ink, widths)
        most = [max(4, int(ROOM * n)) for n in lengths.tolist()]
        if self.config.name == "master":  # its memory holds several rows
            most = [max(4, n // max(1, self.encoder.rows)) for n in lengths.tolist()]
        p = self.decoder.greedy(H, outside, max(most) + 1).cpu().numpy()
        return [spelled(row, stop=0, first=1, frames=n) for row, n in zip(p, most, strict=True)]
