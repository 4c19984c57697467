"""What spells: an LSTM with attention (content, location or coverage), and a transformer with kept keys.

Labels: 0 ends a text, 1 to n are the characters, n + 1 begins it.

    e_t = v tanh(W H + U s_{t-1} + L f_{t-1}),   a_t = softmax(e_t),   c_t = sum a_t H

content leaves f out (Bahdanau et al. 2015); location convolves the last weights, coverage the sum of all
weights so far (Michael et al. 2019, arXiv 1903.07377), and its loss adds sum min(a_t, sum of earlier a).
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vision.ocr.models.master import Decoder, MultiHeadAttention

STOP = 0
Kind = Literal["content", "location", "coverage"]


class AttentionLSTM(nn.Module):
    """H (B, T, D), lengths -> logits (B, steps, V); one or two LSTM layers."""

    def __init__(
        self, inputs: int, hidden: int, outputs: int, kind: Kind = "location", layers: int = 1
    ) -> None:
        super().__init__()
        self.kind, self.hidden = kind, hidden
        self.embedding = nn.Embedding(outputs + 1, hidden)
        self.keys = nn.Linear(inputs, hidden, bias=False)
        self.query = nn.Linear(hidden, hidden)
        self.place = None if kind == "content" else nn.Conv1d(1, 16, 15, padding=7)
        self.mix = None if kind == "content" else nn.Linear(16, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)
        self.cells = nn.ModuleList(
            nn.LSTMCell(hidden + inputs if not layer else hidden, hidden) for layer in range(layers)
        )
        self.head = nn.Linear(hidden + inputs, outputs)
        self.outputs = outputs

    def start(self, H: Tensor) -> dict[str, Any]:
        """What is known before the first character."""
        zeros = H.new_zeros(len(H), self.hidden)
        return {
            "states": [(zeros, zeros) for _ in self.cells],
            "weights": H.new_zeros(H.shape[:2]),
            "sum": H.new_zeros(H.shape[:2]),
            "keys": self.keys(H),
            "penalty": H.new_zeros(len(H)),
        }

    def step(
        self, at: dict[str, Any], label: Tensor, H: Tensor, outside: Tensor
    ) -> tuple[dict[str, Any], Tensor]:
        """One character (B,) further -> what is known, logits (B, V)."""
        energy = at["keys"] + self.query(at["states"][-1][0])[:, None]
        if self.place is not None and self.mix is not None:
            seen = at["weights"] if self.kind == "location" else at["sum"]
            energy = energy + self.mix(self.place(seen[:, None]).transpose(1, 2))
        weights = self.score(energy.tanh())[..., 0].masked_fill(outside, -torch.inf).softmax(1)
        context = torch.einsum("bt,btd->bd", weights, H)
        x = torch.cat([self.embedding(label), context], 1)
        states = []
        for cell, state in zip(self.cells, at["states"], strict=True):
            state = cell(x, state)
            states.append(state)
            x = state[0]
        penalty = at["penalty"] + torch.minimum(weights, at["sum"]).sum(1)
        known = {**at, "states": states, "weights": weights, "sum": at["sum"] + weights, "penalty": penalty}
        return known, self.head(torch.cat([x, context], 1))

    def teacher(self, H: Tensor, outside: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, L, V) for the labels told, and the penalty of coverage ()."""
        at, logits = self.start(H), []
        for step in range(inputs.shape[1]):
            at, out = self.step(at, inputs[:, step], H, outside)
            logits.append(out)
        penalty = (
            at["penalty"].mean() / max(inputs.shape[1], 1) if self.kind == "coverage" else H.new_zeros(())
        )
        return torch.stack(logits, 1), penalty

    def greedy(self, H: Tensor, outside: Tensor, most: int) -> Tensor:
        """Probabilities (B, steps, V) with the best label fed back, until every row has ended."""
        at = self.start(H)
        label = torch.full((len(H),), self.outputs, device=H.device)
        return fed_back(lambda label, _: self.advance(at, label, H, outside), label, most)

    def advance(self, at: dict[str, Any], label: Tensor, H: Tensor, outside: Tensor) -> Tensor:
        """`step` that keeps what is known in `at`."""
        known, logits = self.step(at, label, H, outside)
        at.update(known)
        return logits


def fed_back(step: Any, label: Tensor, most: int) -> Tensor:
    """Probabilities (B, steps, V) of `step(label, number)`, the best labels fed back until all have ended."""
    ended = torch.zeros(len(label), dtype=torch.bool, device=label.device)
    found = []
    for number in range(most):
        p = step(label, number).softmax(-1)
        found.append(p)
        label = p.argmax(-1)
        ended |= label == STOP
        if bool(ended.all()):
            break
    return torch.stack(found, 1)


class CachedDecoder(Decoder):
    """MASTER's decoder with a read-out; characters are spelled with the keys and values of earlier ones kept.

    own_norms: each sub-layer has a LayerNorm of its own, as in NRTR, in place of the shared one.
    """

    def __init__(
        self, dimensions: int, heads: int, stacks: int, inner: int, outputs: int, *, own_norms: bool = False
    ) -> None:
        super().__init__(heads, dimensions, stacks, 0.2, inner, outputs + 2, outputs + 1, False)
        self.head = nn.Linear(dimensions, outputs)
        self.outputs = outputs
        count = 3 * stacks + 1
        self.norms = nn.ModuleList(nn.LayerNorm(dimensions) for _ in range(count)) if own_norms else None

    def norm(self, x: Tensor, place: int) -> Tensor:
        """LayerNorm before sub-layer `place`; the last one is that of the output."""
        return self.layer_norm(x) if self.norms is None else self.norms[place](x)

    def teacher(self, H: Tensor, outside: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, L, V) for the labels told; no penalty."""
        T = inputs.shape[1]
        mask = torch.ones(T, T, dtype=torch.bool, device=H.device).tril()[None, None]
        seen = ~outside[:, None, None]
        x = self.position(self.embedding(inputs) * self.scale)
        for stack in range(self.stacks):
            y = self.norm(x, 3 * stack)
            x = x + self.dropout(self.attention[stack](y, y, y, mask))
            y = self.norm(x, 3 * stack + 1)
            x = x + self.dropout(self.source_attention[stack](y, H, H, seen))
            x = x + self.dropout(self.position_feed_forward[stack](self.norm(x, 3 * stack + 2)))
        return self.head(self.norm(x, 3 * self.stacks)), H.new_zeros(())

    def greedy(self, H: Tensor, outside: Tensor, most: int) -> Tensor:
        """Probabilities (B, steps, V) with the best label fed back, each step from kept keys and values."""
        own: list[Any] = [None] * self.stacks
        source: Any = [part.keys_of(H, H) for part in self.source_attention]  # pyright: ignore
        seen = ~outside[:, None, None]

        def step(label: Tensor, number: int) -> Tensor:
            table: Any = self.position.pe
            x = self.embedding(label)[:, None] * self.scale + table[:, number : number + 1]
            for stack in range(self.stacks):
                attention: Any = self.attention[stack]
                y = self.norm(x, 3 * stack)
                k, v = attention.keys_of(y, y)
                if own[stack] is not None:
                    k, v = torch.cat([own[stack][0], k], 2), torch.cat([own[stack][1], v], 2)
                own[stack] = (k, v)
                x = x + attention.attend(y, k, v, None)
                other: Any = self.source_attention[stack]
                x = x + other.attend(self.norm(x, 3 * stack + 1), *source[stack], seen)
                x = x + self.position_feed_forward[stack](self.norm(x, 3 * stack + 2))
            return self.head(self.norm(x, 3 * self.stacks))[:, 0]

        label = torch.full((len(H),), self.outputs, device=H.device)
        return fed_back(step, label, most)


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer (B, T, D) -> the same; `seen` (B, 1, 1, T) hides padding."""

    def __init__(self, dimensions: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(heads, dimensions)
        self.first, self.second = nn.LayerNorm(dimensions), nn.LayerNorm(dimensions)
        self.inner = nn.Sequential(nn.Linear(dimensions, inner), nn.ReLU(), nn.Linear(inner, dimensions))

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        y = self.first(x)
        x = x + F.dropout(self.attention(y, y, y, seen), 0.1, self.training)
        return x + F.dropout(self.inner(self.second(x)), 0.1, self.training)
