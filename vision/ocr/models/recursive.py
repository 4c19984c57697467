"""Gated recurrent convolution (Wang & Hu 2017): one convolution applied again and again behind a gate.

    G = sigmoid(BN(w_gf u) + BN(w_gr x)),   x <- relu(BN(w_f u) + BN(BN(w_r x) G)),   x_0 = relu(BN(w_f u))

The weights are shared by the iterations, the norms are not.
"""

from torch import Tensor, nn


class Norms(nn.Module):
    """The five norms of an iteration, and what it computes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.BN_gfu, self.BN_grx = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.BN_fu, self.BN_rx = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.BN_Gx = nn.BatchNorm2d(channels)

    def forward(self, gate_u: Tensor, gate_x: Tensor, u: Tensor, x: Tensor) -> Tensor:
        gate = (self.BN_gfu(gate_u) + self.BN_grx(gate_x)).sigmoid()
        return (self.BN_fu(u) + self.BN_Gx(self.BN_rx(x) * gate)).relu()


class GatedRecurrentConv(nn.Module):
    """u (B, I, H, W) -> (B, O, H, W)."""

    def __init__(self, inputs: int, outputs: int, iterations: int = 5) -> None:
        super().__init__()
        self.wgf_u = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.wgr_x = nn.Conv2d(outputs, outputs, 1, bias=False)
        self.wf_u = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.wr_x = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.BN_x_init = nn.BatchNorm2d(outputs)
        self.GRCL = nn.ModuleList(Norms(outputs) for _ in range(iterations))

    def forward(self, u: Tensor) -> Tensor:
        gate_u, into = self.wgf_u(u), self.wf_u(u)
        x = self.BN_x_init(into).relu()
        for norms in self.GRCL:
            x = norms(gate_u, self.wgr_x(x), into, self.wr_x(x))
        return x
