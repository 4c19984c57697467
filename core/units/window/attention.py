"""Local causal attention, the third layer of Griffin (De et al. 2024, arXiv 2402.19427).

    q, k, v = W_q x, W_k x, W_v x                    q in h heads, k and v in fewer (one: multi-query)
    y_t = W_o sum_j softmax_j(q_t . k_j / sqrt(D)) v_j + b        over t - window < j <= t

Rotary positions turn the first half of each head, in halves (not pairs). A sequence is cut into blocks as
long as the window, each of which looks at its own and the window before, so the cost is linear in T.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.parts.heads import head_count, split
from core.parts.lengths import window_at_end
from core.parts.options import above_zero, sizes
from core.parts.rotary import rotate
from core.units.contract import Unit

State = tuple[Tensor, Tensor, Tensor]
SHORTEST_BLOCK = 64  # below this length more, smaller products cost more than masked numbers


class LocalAttention(Unit):
    """x (B, T, I) -> y (B, T, H); state: keys, values (B, window - 1, h', D), count (B,) of tokens so far.

    Args:
        heads: that divide the width; None is one for every 64 channels.
        key_heads: h', that divide the heads; 1 is multi-query attention.
        window: tokens that one sees, itself included.
        theta: base of the rotary angles.
    """

    modes = ("step", "sequential", "chunkwise")
    paper = "De et al. 2024, arXiv 2402.19427"
    freezes = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int | None = None,
        key_heads: int = 1,
        window: int = 256,
        theta: float = 1e4,
    ) -> None:
        super().__init__(input_size, hidden_size)
        sizes("local attention", key_heads=key_heads, window=window)
        above_zero("local attention", theta=theta)
        self.heads, self.key_heads = head_count("local attention", hidden_size, heads), key_heads
        self.head_size, self.window, self.theta = hidden_size // self.heads, window, theta
        if key_heads < 1 or self.heads % key_heads:
            raise ConfigError(f"key heads must divide the {self.heads} heads, got {key_heads}")
        if window < 1 or self.head_size % 4:
            raise ConfigError(
                f"local attention needs a window and heads of a multiple of 4 channels, got {window} and "
                f"{self.head_size}"
            )
        keys = key_heads * self.head_size
        self.q_proj = nn.Linear(input_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(input_size, keys, bias=False)
        self.v_proj = nn.Linear(input_size, keys, bias=False)
        self.o_proj = nn.Linear(hidden_size, hidden_size)

    def initial_state(self, x: Tensor) -> State:
        keys = x.new_zeros(x.shape[0], self.window - 1, self.key_heads, self.head_size)
        return keys, keys.clone(), torch.zeros(x.shape[0], dtype=torch.long, device=x.device)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, state = self.attend(x.unsqueeze(1), state, 1)
        return y.squeeze(1), state

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential":
            return super().run(x, state, mode, lengths)
        return self.attend(x, state, min(x.shape[1], max(self.window, SHORTEST_BLOCK)), lengths)

    def attend(
        self, x: Tensor, state: State, block: int, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """A sequence of T >= 1 tokens in blocks of queries."""
        past_keys, past_values, count = state
        time, past = x.shape[1], self.window - 1
        angles = self.angles(count, time)
        q = rotate(split(self.q_proj(x), self.heads), angles)
        keys = torch.cat([past_keys, rotate(split(self.k_proj(x), self.key_heads), angles)], 1)
        values = torch.cat([past_values, split(self.v_proj(x), self.key_heads)], 1)
        blocks = -(-time // block)
        padding = (0, 0, 0, 0, 0, blocks * block - time)
        seen = past + block
        q = F.pad(q, padding).unflatten(1, (blocks, block)).transpose(2, 3)  # (B, blocks, h, block, D)
        k, v = (  # (B, blocks, h, past + block, D)
            F.pad(part, padding)
            .unfold(1, seen, block)
            .transpose(-1, -2)
            .repeat_interleave(self.heads // self.key_heads, 2)
            .to(q.dtype)
            for part in (keys, values)
        )
        offset = torch.arange(seen, device=x.device)
        distance = past + torch.arange(block, device=x.device)[:, None] - offset
        band = (distance >= 0) & (distance <= past)  # (block, past + block)
        place = torch.arange(blocks, device=x.device)[:, None] * block + offset - past
        exists = count[:, None, None] + place >= 0  # (B, blocks, past + block)
        o = F.scaled_dot_product_attention(q, k, v, band & exists[:, :, None, None])
        y = self.o_proj(o.transpose(2, 3).flatten(1, 2).flatten(2)[:, :time].to(x.dtype))
        last_keys, last_values = (window_at_end(part, past, lengths) for part in (keys, values))
        count = count + (time if lengths is None else lengths)
        return y, (last_keys.to(past_keys.dtype), last_values.to(past_values.dtype), count)

    def angles(self, count: Tensor, time: int) -> Tensor:
        """(B, T, 1, D / 4) rotation of each token, in float64, since positions grow without end."""
        turning = self.head_size // 4
        rates = self.theta ** (-torch.arange(turning, dtype=torch.float64, device=count.device) / turning)
        position = count[:, None] + torch.arange(time, device=count.device)
        return (position[..., None] * rates)[:, :, None]
