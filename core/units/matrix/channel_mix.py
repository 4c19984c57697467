"""What the channel mixes of RWKV share: their only state is the previous token."""

from torch import Tensor

from core.units.contract import Unit


class ChannelMix(Unit):
    """x (B, T, I), state: the previous token (B, I) -> y (B, T, I), state."""

    freezes = True

    @property
    def output_size(self) -> int:
        return self.input_size

    def initial_state(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.input_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.run(x.unsqueeze(1), state, "sequential")
        return y.squeeze(1), state
