"""An LSTM decoder with content attention (Bahdanau et al. 2015) as the scene-text benchmark has it.

e_t = v tanh(W H + U h_{t-1}),   a_t = softmax(e_t),   c_t = sum a_t H,   h_t = LSTM([c_t, onehot(y_{t-1})])
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GO, STOP = 0, 1


class AttentionCell(nn.Module):
    """state, H (B, T, D), previous one-hot (B, V) -> state, weights (B, T)."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.i2h = nn.Linear(inputs, hidden, bias=False)
        self.h2h = nn.Linear(hidden, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.rnn = nn.LSTMCell(inputs + classes, hidden)

    def forward(
        self, state: tuple[Tensor, Tensor], H: Tensor, previous: Tensor
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        energy = self.score((self.i2h(H) + self.h2h(state[0])[:, None]).tanh())[..., 0]
        weights = energy.softmax(1)
        context = torch.einsum("bt,btd->bd", weights, H)
        return self.rnn(torch.cat([context, previous], 1), state), weights


class Attention(nn.Module):
    """H (B, T, D) -> logits (B, steps, V)."""

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.attention_cell = AttentionCell(inputs, hidden, classes)
        self.generator = nn.Linear(hidden, classes)
        self.hidden, self.classes = hidden, classes

    def forward(self, H: Tensor, text: Tensor | None, steps: int) -> Tensor:
        """`text` (B, >= steps) are the labels fed in; None feeds back the most probable ones."""
        state = (H.new_zeros(H.shape[0], self.hidden), H.new_zeros(H.shape[0], self.hidden))
        label = H.new_full((H.shape[0],), GO, dtype=torch.long)
        logits = []
        for step in range(steps):
            if text is not None:
                label = text[:, step]
            state, _ = self.attention_cell(state, H, F.one_hot(label, self.classes).to(H.dtype))
            logits.append(self.generator(state[0]))
            label = logits[-1].argmax(-1)
        return torch.stack(logits, 1)


def spoken(logits: Tensor) -> tuple[list[list[int]], list[float]]:
    """Labels up to [s] of logits (B, steps, V), and the product of their probabilities and that of [s]."""
    best = logits.softmax(-1).max(-1)
    labels, confidences = [], []
    for row, sure in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        end = row.index(STOP) if STOP in row else len(row)
        labels.append(row[:end])
        product = 1.0
        for value in sure[: end + 1]:
            product *= value
        confidences.append(product)
    return labels, confidences
