"""What a server's retrieval finds of the exact answer, for one kept state at a time."""

from typing import Any

import numpy as np
import torch

from recsys.models.interest import InterestNetwork
from recsys.models.slate import SlateNetwork
from recsys.retrieval.shelf import Ready, Shelf
from recsys.slates import FIRST


def audited(network: Any, state: Any, count: int) -> tuple[int, int]:
    """How many of the `count` best items by scores of the whole table there are, and how many were found.

    Networks without a shelf or neighbour lists look at every item: (0, 0).
    """
    if isinstance(network, InterestNetwork) and not network.items.rank:
        shelf, ready = Shelf.of(network), Ready.of(network, state)[0]
        count = min(count, len(shelf.order))
        found = shelf.order[shelf.best(ready.of_group, count, np.zeros(0, np.int64))]
    elif isinstance(network, SlateNetwork) and network.lists is not None:
        count = min(count, len(network.lists.means))
        with torch.inference_mode():
            z = network.user(state)[0].numpy()
        found = FIRST + network.lists.top(z, count)
    else:
        return 0, 0
    with torch.inference_mode():
        scores = network.rank_state(state)[0].numpy()[FIRST:]
    exact = np.argsort(-scores, kind="stable")[:count] + FIRST
    return count, int(np.isin(exact, found).sum())
