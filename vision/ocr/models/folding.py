"""Convolutions with their BatchNorm in one, for networks that only read: a tenth of a line's time.

A network names its pairs in `FOLDS`. The weights lie in channels last, as the lines come.
"""

from copy import deepcopy
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FOLDED: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()
"""What was made of the networks that are in use."""


def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation whose convolutions hold their norms; the network itself where it has no pairs."""
    if not any(hasattr(part, "FOLDS") for part in network.modules()):
        return network
    found = FOLDED.get(network)
    if found is None:
        found = deepcopy(network).eval()
        for part in list(found.modules()):
            for conv, norm in getattr(part, "FOLDS", ()):
                fold(part, conv, norm)
        FOLDED[network] = found
    return found


def fold(part: Any, conv: str, norm: str) -> None:
    """Put the norm of a part into its convolution, and nothing in the norm's place."""
    whole = fuse_conv_bn_eval(getattr(part, conv), getattr(part, norm))
    whole.weight.data = whole.weight.data.contiguous(memory_format=torch.channels_last)
    setattr(part, conv, whole)
    setattr(part, norm, nn.Identity())
