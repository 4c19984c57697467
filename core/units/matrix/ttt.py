"""TTT-Linear, whose state is a linear model that learns from every token (Sun et al. 2024, arXiv 2407.04620).

    q, k, v   = W x, per head; q, k turned by their place in the mini-batch (rotary, pairs i, i + K/2)
    l_j       = base / K * sigmoid(w x_j + c)         what token j teaches
    a_i       = max(0, 1/i + learned_i)               how much of it token i of a mini-batch takes
    o         = the inner model's answers, see core.kernels.ttt_scan
    y         = W_o LN(q + LN(o))

Inner weights W1, b1 are learned too: they are where a sequence begins.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError
from core.kernels.choice import recording
from core.kernels.ttt_scan import EPS, Learned, ttt_scan, ttt_step
from core.parts.heads import head_count, split
from core.parts.lengths import still
from core.parts.options import above_zero, sizes
from core.parts.rotary import rotate
from core.state import join, rows
from core.units.contract import Unit

State = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


class TTT(Unit):
    """x (B, T, I), state: W, G (B, h, K, K), b, s (B, h, K), place (B, 1) -> y (B, T, H), state.

    Args:
        heads: that divide the width; None is one for every 64 channels.
        mini_batch: tokens between two updates of the inner model.
        base_rate: the largest step of the inner model, before it is divided by the width of a head.
        rotary: whether q and k know their place in the mini-batch; wants heads of even width.
        theta: of the rotary code.
    """

    modes = ("step", "sequential", "chunkwise")
    freezes = True
    row_groups = 1  # rows that ended are left out of later mini-batches
    paper = "Sun et al. 2024, arXiv 2407.04620"
    no_decay = ("inner_weight", "inner_bias", "take", "gain", "offset", "norm.weight", "norm.bias")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        heads: int | None = None,
        mini_batch: int = 16,
        base_rate: float = 1.0,
        rotary: bool = True,
        theta: float = 10000.0,
    ) -> None:
        super().__init__(input_size, hidden_size)
        sizes("TTT", mini_batch=mini_batch)
        above_zero("TTT", base_rate=base_rate, theta=theta)
        self.heads = head_count("TTT", hidden_size, heads)
        self.mini_batch, self.base_rate = mini_batch, base_rate
        width = hidden_size // self.heads
        if rotary and width % 2:
            raise ConfigError(f"rotary of TTT wants heads of even width, got {width}")
        self.qkv = nn.Linear(input_size, 3 * hidden_size, bias=False)
        self.rate = nn.Linear(input_size, self.heads)
        self.take = nn.Parameter(torch.zeros(mini_batch))
        self.inner_weight = nn.Parameter(torch.randn(self.heads, width, width) * 0.02)
        self.inner_bias = nn.Parameter(torch.zeros(self.heads, width))
        self.gain = nn.Parameter(torch.ones(self.heads, width))
        self.offset = nn.Parameter(torch.zeros(self.heads, width))
        self.norm = nn.LayerNorm(hidden_size, eps=EPS)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)
        turn = theta ** (-torch.arange(width // 2, dtype=torch.float64) / max(1, width // 2))
        angles = torch.arange(mini_batch, dtype=torch.float64)[:, None] * turn
        self.register_buffer("angles", angles if rotary else angles[:, :0], persistent=False)

    def initial_state(self, x: Tensor) -> State:
        dtype = torch.promote_types(x.dtype, torch.float32)
        weight = self.inner_weight.to(dtype).expand(x.shape[0], -1, -1, -1)
        bias = self.inner_bias.to(dtype).expand(x.shape[0], -1, -1)
        return weight, bias, torch.zeros_like(weight), torch.zeros_like(bias), weight.new_zeros(x.shape[0], 1)

    def inputs(self, x: Tensor, place: Tensor) -> tuple[Tensor, ...]:
        """x (.., I), place (..) in the mini-batch -> q, k, v (.., h, K), a, rate (.., h)."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        q, k, v = (split(part, self.heads).to(dtype) for part in self.qkv(x).chunk(3, -1))
        table = self.angles
        assert isinstance(table, Tensor)
        angles = table[place][..., None, :]
        rate = self.base_rate / q.shape[-1] * self.rate(x).sigmoid().to(dtype)
        a = (1 / (place + 1).to(dtype) + self.take[place].to(dtype)).clamp(min=0)
        return rotate(q, angles), rotate(k, angles), v, a[..., None].expand_as(rate), rate

    def finish(self, q: Tensor, o: Tensor, x: Tensor) -> Tensor:
        """q, o (.., h, K) -> y (.., H)."""
        read = q + F.layer_norm(o, o.shape[-1:], eps=EPS) * self.gain + self.offset
        return self.output(self.norm(read.flatten(-2).to(x.dtype)))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        weight, bias, open_weight, open_bias, place = state
        index = place[:, 0].long()
        q, k, v, a, rate = self.inputs(x, index)
        last = index + 1 == self.mini_batch
        learned = Learned(weight, bias, open_weight, open_bias)
        o, learned = ttt_step(q, k, v, a, rate, self.gain, self.offset, learned, last)
        place = ((index + 1) % self.mini_batch).to(place.dtype)[:, None]
        return self.finish(q, o, x), (learned[0], learned[1], learned[2], learned[3], place)

    def run(self, x: Tensor, state: State, mode: str, lengths: Tensor | None = None) -> tuple[Tensor, State]:
        if mode == "sequential" or recording():  # a graph cannot depend on where a mini-batch stands
            return super().run(x, state, "sequential", lengths)
        places, ends = state[-1][:, 0].long().tolist(), None if lengths is None else lengths.tolist()
        # rows in the midst of different mini-batches run apart, each kind by falling length
        kinds = [[row for row in range(len(x)) if places[row] == place] for place in sorted(set(places))]
        stops = ends or places  # which are the same in a kind
        kinds = [sorted(kind, key=lambda row: -stops[row]) for kind in kinds]
        if kinds == [[*range(len(x))]]:
            return self.run_together(x, state, places[0], ends)
        parts = []
        for kind in kinds:
            index, own = torch.tensor(kind, device=x.device), ends and [ends[row] for row in kind]
            part = x.index_select(0, index)
            parts.append(self.run_together(part, rows(state, index), places[kind[0]], own))
        back = torch.tensor([row for kind in kinds for row in kind], device=x.device).argsort()
        y = torch.cat([y for y, _ in parts]).index_select(0, back)
        return y, rows(join([end for _, end in parts]), back)

    def run_together(
        self, x: Tensor, state: State, first: int, ends: list[int] | None = None
    ) -> tuple[Tensor, State]:
        """Rows that all stand at one place of a mini-batch, by falling length."""
        *parts, place = state
        time = x.shape[1]
        places = (first + torch.arange(time, device=x.device)) % self.mini_batch
        q, k, v, a, rate = self.inputs(x, places.expand(x.shape[0], -1))
        stops = x.new_tensor([time] if ends is None else ends, dtype=torch.long)
        rate = still(rate, None if ends is None else stops)  # padding teaches nothing
        o, learned = ttt_scan(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), a.mT, rate.mT, self.gain, self.offset,
            Learned(*parts), self.mini_batch, first, ends=ends,
        )  # fmt: skip
        place = ((first + stops) % self.mini_batch).to(place.dtype)[:, None].expand_as(place)
        y = self.finish(q, o.transpose(1, 2), x)
        return y, (learned[0], learned[1], learned[2], learned[3], place)
