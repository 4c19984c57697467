"""LRU of minimal-LRU (JAX): our parameters have the same names."""

import torch
from torch.func import functional_call

from core.units.diagonal.lru import LRU
from tests.golden import Entry, Leaves, reference


@reference("LRU")
def lru(entry: Entry, leaves: Leaves) -> Leaves:
    x = leaves["in.x"]
    weights = {
        name.removeprefix("param."): leaf for name, leaf in leaves.items() if name.startswith("param.")
    }
    unit = LRU(x.shape[-1], len(weights["D"]), state_size=len(weights["nu_log"])).to(x.dtype)
    outputs = [functional_call(unit, weights, (x, None, mode))[0] for mode in unit.modes]
    return {"out.y": torch.stack(outputs).mean(0)}
