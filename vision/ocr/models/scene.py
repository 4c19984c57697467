"""The four-stage recogniser of the scene-text benchmark (Baek et al. 2019): extractor, sequence, prediction.

CRNN is VGG + BiLSTM + CTC; AttentionHTR is (TPS +) ResNet + BiLSTM + attention. Names are those of the
published checkpoints: `FeatureExtraction.ConvNet.*`, `SequenceModeling.{0,1}.{rnn,linear}.*`, `Prediction.*`.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from vision.ocr.models.attention import Attention
from vision.ocr.models.recursive import GatedRecurrentConv
from vision.ocr.models.tps import Rectify


class Model(nn.Module):
    """images (B, C, H, W) in -1..1 -> logits (B, T, V): CTC with blank 0, or attention with [GO] 0, [s] 1."""

    def __init__(
        self,
        *,
        input_channel: int = 1,
        output_channel: int = 512,
        hidden_size: int = 256,
        num_class: int,
        batch_max_length: int = 25,
        FeatureExtraction: str = "ResNet",
        SequenceModeling: str = "BiLSTM",
        Prediction: str = "CTC",
        fiducials: int | None = None,
        imgH: int = 32,
        imgW: int = 100,
        **_: object,
    ) -> None:
        super().__init__()
        self.Transformation = Rectify(fiducials, (imgH, imgW), input_channel) if fiducials else None
        kind = {"VGG": VGG, "ResNet": ResNet, "RCNN": RCNN}[FeatureExtraction]
        self.FeatureExtraction = kind(input_channel, output_channel)
        width = output_channel
        self.SequenceModeling: nn.Module | None = None
        if SequenceModeling == "BiLSTM":
            self.SequenceModeling = nn.Sequential(
                BiLSTM(width, hidden_size, hidden_size), BiLSTM(hidden_size, hidden_size, hidden_size)
            )
            width = hidden_size
        self.longest = batch_max_length
        self.Prediction: nn.Module
        if Prediction == "CTC":
            self.Prediction = nn.Linear(width, num_class)
        else:
            self.Prediction = Attention(width, hidden_size, num_class)

    def visual(self, images: Tensor) -> Tensor:
        """Feature map (B, C, H', W')."""
        return self.FeatureExtraction(images)

    def forward(self, images: Tensor, text: Tensor | None = None) -> Tensor:
        """`text` (B, longest + 1): labels behind [GO] that attention is told; None: its own answers."""
        if self.Transformation is not None:
            images = self.Transformation(images)
        x = self.visual(images).permute(0, 3, 1, 2)  # (B, T, C, H')
        x = F.adaptive_avg_pool2d(x, (x.shape[2], 1))[..., 0]
        if self.SequenceModeling is not None:
            x = self.SequenceModeling(x)
        if isinstance(self.Prediction, Attention):
            return self.Prediction(x, text, self.longest + 1)
        return self.Prediction(x)


class BiLSTM(nn.Module):
    """x (B, T, I) -> (B, T, O)."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(inputs, hidden, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(2 * hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.rnn(x)[0])


def conv(inputs: int, outputs: int, size: int = 3, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, 1, 1 if size == 3 else 0, bias=bias)


class VGG(nn.Module):
    """The extractor of CRNN (Shi et al. 2015): 32 x 100 -> C x 1 x 24."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        a, b, c, d = outputs // 8, outputs // 4, outputs // 2, outputs
        self.ConvNet = nn.Sequential(
            *(conv(inputs, a), nn.ReLU(), nn.MaxPool2d(2, 2)),
            *(conv(a, b), nn.ReLU(), nn.MaxPool2d(2, 2)),
            *(conv(b, c), nn.ReLU(), conv(c, c), nn.ReLU(), nn.MaxPool2d((2, 1), (2, 1))),
            *(conv(c, d, bias=False), nn.BatchNorm2d(d), nn.ReLU()),
            *(conv(d, d, bias=False), nn.BatchNorm2d(d), nn.ReLU(), nn.MaxPool2d((2, 1), (2, 1))),
            *(conv(d, d, 2), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.ConvNet(x)


class RCNN(nn.Module):
    """Gated recursive convolutions (Wang & Hu 2017, after R2AM of 2016): 32 x 100 -> C x 1 x 26."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        a, b, c, d = outputs // 8, outputs // 4, outputs // 2, outputs
        self.ConvNet = nn.Sequential(
            *(conv(inputs, a), nn.ReLU(), nn.MaxPool2d(2, 2)),
            *(GatedRecurrentConv(a, a), nn.MaxPool2d(2, 2)),
            *(GatedRecurrentConv(a, b), nn.MaxPool2d(2, (2, 1), (0, 1))),
            *(GatedRecurrentConv(b, c), nn.MaxPool2d(2, (2, 1), (0, 1))),
            *(conv(c, d, 2, bias=False), nn.BatchNorm2d(d), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.ConvNet(x)


class SceneBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs, bias=False), nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class Layers29(nn.Module):
    """The 29 layers of the residual extractor; names as published."""

    def __init__(self, inputs: int, C: int) -> None:
        super().__init__()
        widths = {
            "0_1": (inputs, C // 16),
            "0_2": (C // 16, C // 8),
            "1": (C // 4, C // 4),
            "2": (C // 2, C // 2),
            "3": (C, C),
        }
        for name, (a, b) in widths.items():
            self.add_module(f"conv{name}", conv(a, b, bias=False))
            self.add_module(f"bn{name}", nn.BatchNorm2d(b))
        self.conv4_1 = nn.Conv2d(C, C, 2, (2, 1), (0, 1), bias=False)
        self.bn4_1 = nn.BatchNorm2d(C)
        self.conv4_2 = nn.Conv2d(C, C, 2, 1, 0, bias=False)
        self.bn4_2 = nn.BatchNorm2d(C)
        before = C // 8
        for number, (count, width) in enumerate(((1, C // 4), (2, C // 2), (5, C), (3, C)), 1):
            blocks = []
            for _ in range(count):
                blocks.append(SceneBlock(before, width))
                before = width
            self.add_module(f"layer{number}", nn.Sequential(*blocks))

    def step(self, name: str, x: Tensor) -> Tensor:
        layers = dict(self.named_children())
        return layers[f"bn{name}"](layers[f"conv{name}"](x)).relu()

    def forward(self, x: Tensor) -> Tensor:
        layers = dict(self.named_children())
        x = F.max_pool2d(self.step("0_2", self.step("0_1", x)), 2, 2)
        x = F.max_pool2d(self.step("1", layers["layer1"](x)), 2, 2)
        x = F.max_pool2d(self.step("2", layers["layer2"](x)), 2, (2, 1), (0, 1))
        x = self.step("3", layers["layer3"](x))
        return self.step("4_2", self.step("4_1", layers["layer4"](x)))


class ResNet(nn.Module):
    """32 x 100 -> C x 1 x 26."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.ConvNet = Layers29(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.ConvNet(x)
