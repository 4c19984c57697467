"""Short causal depthwise convolution that carries its window from piece to piece.

y_t = sum_{j=1..K} weight_j * x_{t-K+j} + bias        channel by channel, the last tap meets the current token
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.parts.lengths import window_at_end


class CausalConv(nn.Module):
    """x (B, T, C), window (B, K, C) -> y (B, T, C), window: the last K inputs, newest last.

    The weight is (K, C), a row a tap, so that a step reads it along memory; published layouts keep (C, 1, K).

    Args:
        width: K, taps.
        bias: whether there is one.
    """

    def __init__(self, channels: int, width: int = 4, *, bias: bool = True) -> None:
        super().__init__()
        if channels < 1 or width < 1:
            raise ConfigError(
                f"a causal convolution needs positive sizes, got {channels} channels, width {width}"
            )
        self.channels, self.width = channels, width
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(width, channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound)) if bias else None

    def initial_state(self, x: Tensor) -> Tensor:
        """Zeros before the first token of x (B, ...)."""
        return x.new_zeros(x.shape[0], self.width, self.channels)

    def forward(self, x: Tensor, window: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """With lengths (B,) the window ends with each row's last token."""
        past = torch.cat([window[:, 1:], x], 1)  # (B, K-1+T, C)
        image = past.transpose(1, 2).unsqueeze(
            2
        )  # (B, C, 1, K-1+T), channels last in memory: the fast layout
        weight = self.weight.t()[:, None, None]
        convolve = on_cpu if x.is_cpu else F.conv2d
        y = convolve(image.to(x.dtype), weight, self.bias, groups=self.channels)
        return y.squeeze(2).transpose(1, 2), window_at_end(torch.cat([window, x], 1), self.width, lengths)

    def step(self, x: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        """Advance one token: x (B, C)."""
        window = torch.cat([window[:, 1:], x.unsqueeze(1)], 1)
        y = (window * self.weight).sum(1)
        return (y if self.bias is None else y + self.bias).to(x.dtype), window


def on_cpu(image: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """`conv2d`, float16 in float32: with many taps torch's own loop may not come back."""
    lower = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else image.dtype
    if lower is not torch.float16:
        return F.conv2d(image, weight, bias, groups=groups)
    with torch.autocast("cpu", enabled=False):
        wide = None if bias is None else bias.float()
        return F.conv2d(image.float(), weight.float(), wide, groups=groups).to(lower)
