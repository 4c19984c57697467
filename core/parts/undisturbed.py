"""A network as in evaluation for a moment, and then everything as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, and afterwards it and the random generator as they were."""
    flags = [(module, module.training) for module in network.modules()]
    with torch.random.fork_rng(devices=[]):
        network.eval()
        try:
            yield
        finally:
            for module, training in flags:
                module.training = training
