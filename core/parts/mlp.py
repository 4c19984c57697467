"""Gated two-layer network beside a mixer.

y = W_down (act(W_gate x) * W_up x)        act: silu (SwiGLU) or tanh-form gelu (GeGLU)
"""

from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError

ACTIVATIONS = ("silu", "gelu_tanh")


class GatedMLP(nn.Module):
    """x (..., width) -> y (..., width) through `inner` channels.

    Args:
        activation: silu or gelu_tanh.
        bias: whether the layers have one.
    """

    def __init__(self, width: int, inner: int, *, activation: str = "silu", bias: bool = False) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ConfigError(f"activation must be one of {ACTIVATIONS}, got {activation!r}")
        self.activation = activation
        self.gate_proj = nn.Linear(width, inner, bias)
        self.up_proj = nn.Linear(width, inner, bias)
        self.down_proj = nn.Linear(inner, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gate_proj(x)
        gate = F.silu(gate) if self.activation == "silu" else F.gelu(gate, approximate="tanh")
        return self.down_proj(gate * self.up_proj(x))
