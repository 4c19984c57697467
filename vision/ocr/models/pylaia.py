"""The CRNN of PyLaia (Puigcerver 2017): convolution blocks, columns as features, three bidirectional LSTMs.

Names, order of the layers and the zeroing of columns beyond a line are PyLaia's, so its checkpoints load
with every key accounted for. A block: dropout, convolution, mask, BatchNorm, activation, mask, pool.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

ACTIVATIONS = {"LeakyReLU": nn.LeakyReLU, "ReLU": nn.ReLU, "Tanh": nn.Tanh, "Sigmoid": nn.Sigmoid}


class ConvBlock(nn.Module):
    """x (B, C, H, W), sizes (B, 2) of height and width -> the same after the block."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int],
        activation: str,
        pool: Sequence[int],
        dropout: float,
        batchnorm: bool,
        masks: bool,
    ) -> None:
        super().__init__()
        high, wide = kernel
        down, across = dilation
        self.dropout = dropout
        self.masks = masks
        self.conv = nn.Conv2d(
            inputs,
            outputs,
            (high, wide),
            stride=(stride[0], stride[1]),
            padding=(down * (high // 2), across * (wide // 2)),
            dilation=(down, across),
            bias=not batchnorm,
        )
        self.batchnorm = nn.BatchNorm2d(outputs) if batchnorm else None
        self.activation = ACTIVATIONS[activation]()
        self.pool = tuple(pool) if all(pool) else None

    def forward(self, x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor | None]:
        conv = self.conv
        x = conv(F.dropout(x, self.dropout, self.training) if self.dropout else x)
        if sizes is not None:
            axes = zip(conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True)
            grown = [
                (sizes[:, i] + 2 * int(p) - d * (k - 1) - 1) // s + 1 for i, (k, s, p, d) in enumerate(axes)
            ]
            sizes = torch.stack(grown, 1)
        x = self.masked(x, sizes)
        if self.batchnorm is not None:
            x = self.batchnorm(x)
        x = self.masked(self.activation(x), sizes)
        if self.pool is not None:
            x = F.max_pool2d(x, self.pool)
            if sizes is not None:
                sizes = sizes // torch.tensor(self.pool, device=sizes.device)
        return x, sizes

    def masked(self, x: Tensor, sizes: Tensor | None) -> Tensor:
        if sizes is None or not self.masks:
            return x
        rows = torch.arange(x.shape[2], device=x.device) < sizes[:, :1]
        columns = torch.arange(x.shape[3], device=x.device) < sizes[:, 1:]
        return x * (rows[:, None, :, None] & columns[:, None, None, :]).to(x.dtype)


class PyLaia(nn.Module):
    """images (B, C, H, W), sizes (B, 2) -> logits (T, B, V) zero beyond the lengths, lengths (B,)."""

    stride = 8

    def __init__(
        self,
        *,
        num_input_channels: int = 1,
        num_output_labels: int,
        cnn_num_features: Sequence[int] = (16, 16, 32, 32),
        cnn_kernel_size: Sequence[Sequence[int]] = ((3, 3),) * 4,
        cnn_stride: Sequence[Sequence[int]] = ((1, 1),) * 4,
        cnn_dilation: Sequence[Sequence[int]] = ((1, 1),) * 4,
        cnn_activation: Sequence[str] = ("LeakyReLU",) * 4,
        cnn_poolsize: Sequence[Sequence[int]] = ((2, 2), (2, 2), (2, 2), (0, 0)),
        cnn_dropout: Sequence[float] = (0, 0, 0, 0),
        cnn_batchnorm: Sequence[bool] = (True, True, True, True),
        image_sequencer: str = "none-16",
        rnn_units: int = 256,
        rnn_layers: int = 3,
        rnn_dropout: float = 0.5,
        lin_dropout: float = 0.5,
        rnn_type: str = "LSTM",
        use_masks: bool = True,
        **other: Any,
    ) -> None:
        super().__init__()
        self.use_masks = use_masks
        channels = [num_input_channels, *cnn_num_features]
        blocks = zip(
            channels,
            channels[1:],
            cnn_kernel_size,
            cnn_stride,
            cnn_dilation,
            cnn_activation,
            cnn_poolsize,
            cnn_dropout,
            cnn_batchnorm,
            strict=False,
        )
        self.conv = nn.ModuleList(ConvBlock(*block, masks=use_masks) for block in blocks)
        self.sequencer, _, rows = image_sequencer.partition("-")
        self.rows = int(rows)
        self.lin_dropout = lin_dropout
        self.rnn = getattr(nn, rnn_type)(
            channels[-1] * self.rows,
            rnn_units,
            rnn_layers,
            dropout=rnn_dropout if rnn_layers > 1 else 0,
            bidirectional=True,
        )
        self.linear = nn.Linear(2 * rnn_units, num_output_labels)

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x, at = images, sizes
        for block in self.conv:
            x, at = block(x, at)
        if self.sequencer != "none" and x.shape[2] != self.rows:
            pool = F.adaptive_avg_pool2d if self.sequencer == "avgpool" else F.adaptive_max_pool2d
            x = pool(x, (self.rows, x.shape[3]))
        if x.shape[2] != self.rows:
            raise ValueError(f"PyLaia expects {self.rows} rows after its pools, got {x.shape[2]}")
        lengths = None if at is None else at[:, 1]
        # under autocast torch would run cuDNN in float16, whose gradients vanish
        with torch.autocast(x.device.type, enabled=False):
            return self.read(x.float().permute(3, 0, 1, 2).flatten(2), lengths)

    def read(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Columns (T, B, C H) -> logits (T, B, V), lengths."""
        if lengths is None:
            y = F.dropout(self.rnn(x)[0], self.lin_dropout, self.training)
            return self.linear(y), None
        packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
        y = self.rnn(packed)[0]
        out = self.linear(F.dropout(y.data, self.lin_dropout, self.training))
        return pad_packed_sequence(y._replace(data=out), total_length=x.shape[0])[0], lengths


class PyLaiaLines(nn.Module):
    """The same network behind the interface of the line networks, for lines of any fixed height."""

    def __init__(self, outputs: int, height: int) -> None:
        super().__init__()
        self.network = PyLaia(num_output_labels=outputs, image_sequencer=f"none-{height // 8}")

    stride = 8

    def frames(self, widths: Tensor) -> Tensor:
        """Frames of lines of these widths."""
        return widths // 8

    def forward(
        self, ink: Tensor, widths: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor | None]:
        if widths is None:
            return self.network(ink)[0], None
        widths = widths.to(ink.device)
        heights = torch.full_like(widths, ink.shape[2])
        return self.network(ink, torch.stack([heights, widths], 1))[0], None
