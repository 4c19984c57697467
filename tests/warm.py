"""Fill the compile cache in one process, while types are checked on the other core: `python -m tests.warm`.

Two workers that meet an empty cache compile the same loops twice, the process that serves the pages a third
time.
"""

import time
from importlib import import_module

import torch

import core
from core import registry
from core.state import tensors
from core.steps.way import Way
from demos.places import places


def compile_pipelines() -> None:
    """What each pipeline needs for its part of the report."""
    for module in places("section").values():
        import_module(module).section(0)


def compile_units() -> None:
    """Every unit of ours in both precisions, forward, backward, and step by step without gradients."""
    for name in registry.names():
        if registry.find(name).origin != "recurra":
            continue
        for dtype in (torch.float32, torch.float64):
            unit = core.build(name, 4).to(dtype)
            x = torch.randn(2, 5, 4, dtype=dtype, requires_grad=True)
            for mode in unit.modes:
                y, _ = unit(x, mode=mode)
                y.sum().backward()
            with torch.no_grad():
                _, state = unit(x)
                unit(x, state)
                if name in ("gru", "s4"):
                    core.streaming.open(unit).step(x[:1, 0].detach().numpy())
                    Way(unit, x[:, 0], state).taken([x[:, 0], *tensors(state)])


if __name__ == "__main__":
    begun = time.process_time()
    torch.set_num_threads(1)
    compile_units()
    compile_pipelines()
    print(f"compiled loops are there ({time.process_time() - begun:.0f} CPU s)")
