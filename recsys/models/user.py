"""User models of the paper (Eide, Leslie, Frigessi, arXiv 2104.15046): clicks -> states.

    gru     r = sigma(W_ir x + W_hr h), u = sigma(W_id x + W_hd h), n = tanh(W_in x + r (W_hn h)),
            h' = (1 - u) n + u h,  z = W_z h,  x = v of the click
    linear  z' = gamma z + (1 - gamma) v
    markov  z' = v, z_0 = 0
    lingru  mean of gru and linear

The state is kept on a step without a click. Weights are values of a draw, not parameters, so every user model
is a function of them. Any other word is a unit of core, read over the clicks after the start as first token.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from core import registry

GATES = ("W_z", "W_ir", "W_hr", "W_id", "W_hd", "W_in", "W_hn")
NAMES = ("gru", "linear", "markov", "lingru")


def sites(name: str, dims: int) -> dict[str, tuple[int, ...]]:
    """Latent sites that a user model draws."""
    shapes: dict[str, tuple[int, ...]] = {}
    if name in ("gru", "lingru"):
        shapes |= {gate: (dims, dims) for gate in GATES}
    if name in ("linear", "lingru"):
        shapes["gamma"] = ()
    return shapes


def states(name: str, v: Tensor, clicked: Tensor, start: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """Vectors of clicks v (B, T, D), whether there was one (B, T), start (B, D) -> z (B, T + 1, D).

    z_t is the state before step t, so it predicts that step.
    """
    if name == "linear":
        return linear_states(v, clicked, start, weights["gamma"])
    if name == "markov":
        return linear_states(v, clicked, torch.zeros_like(start), torch.zeros(()))
    if name == "lingru":
        both = gru_states(v, clicked, start, weights) + linear_states(v, clicked, start, weights["gamma"])
        return both / 2
    return gru_states(v, clicked, start, weights)


def linear_states(v: Tensor, clicked: Tensor, start: Tensor, gamma: Tensor) -> Tensor:
    """z' = gamma z + (1 - gamma) v."""
    z, states = start, [start]
    for t in range(v.shape[1]):
        z = torch.where(clicked[:, t, None], gamma * z + (1 - gamma) * v[:, t], z)
        states.append(z)
    return torch.stack(states, 1)


def gru_states(v: Tensor, clicked: Tensor, start: Tensor, w: Mapping[str, Tensor]) -> Tensor:
    """A GRU without biases whose weights are given, and its linear read-out."""
    h, states = start, [start]
    for t in range(v.shape[1]):
        x = v[:, t]
        r = (x @ w["W_ir"].T + h @ w["W_hr"].T).sigmoid()
        u = (x @ w["W_id"].T + h @ w["W_hd"].T).sigmoid()
        n = (x @ w["W_in"].T + r * (h @ w["W_hn"].T)).tanh()
        h = torch.where(clicked[:, t, None], (1 - u) * n + u * h, h)
        states.append(h)
    return torch.stack(states, 1) @ w["W_z"].T


class UnitStates(nn.Module):
    """Any unit of core as the user model: v (B, T, D), clicked (B, T), start (B, D) -> z (B, T + 1, D)."""

    def __init__(self, unit: str, dims: int, hidden: int) -> None:
        super().__init__()
        self.unit = registry.build(unit, dims, hidden)
        self.read = nn.Linear(int(self.unit.output_size), dims, bias=False)

    def forward(self, v: Tensor, clicked: Tensor, start: Tensor) -> Tensor:
        # A step without a click leaves the state alone: clicks move to the left, states are looked up by
        # how many clicks came before.
        order = torch.sort(~clicked, dim=1, stable=True).indices
        moved = v.gather(1, order[..., None].expand_as(v))
        y, _ = self.unit(torch.cat([start[:, None], moved], 1))
        count = torch.cat([clicked.new_zeros(len(v), 1).long(), clicked.long().cumsum(1)], 1)
        return self.read(y).gather(1, count[..., None].expand(-1, -1, v.shape[2]))
