"""Next-item models whose item table no process holds whole.

    torchrun --standalone --nproc_per_node=2 -m core recsys train next log.csv --out runs/n \\
        --set model.sharded=true --set loss=sampled

Each process has its rows of the table, the rest of the model, and its users of every batch. Validation asks
every process for the ranks that its own rows give. The weights that are written are whole again, and every
other command takes them as those of an undivided run.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from core.errors import ConfigError
from core.training.distributed import Place
from core.training.sharded import ShardedTable, drawn_rows
from recsys.config import NextConfig
from recsys.sequences.data import Questions, left_padded
from recsys.sequences.model import TABLES, NextItem

PIECE = 512
"""Questions at a time."""


def sharded_model(config: NextConfig, items: int, timed: bool, place: Place, seed: int) -> NextItem:
    """A model of so many items whose table is dealt out; the whole of it is never made.

    Raises:
        ConfigError: a block whose table cannot be dealt out, or fewer items than processes.
    """
    name = TABLES.get(config.block, "embedding")
    if name is None:
        raise ConfigError(f"the table of {config.block} cannot be sharded; take another block.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NextItem(replace(config, sparse=False), 1, timed)  # of one item: its table is replaced
    small = model.block.get_submodule(name)
    assert isinstance(small, nn.Embedding)
    rows = small.num_embeddings - 1 + items
    padding = rows - 1 if config.block == "gsasrec" else 0
    start = drawn_rows(rows, config.hidden, (2 / (rows + config.hidden)) ** 0.5, place, seed)
    table = ShardedTable(rows, config.hidden, place, padding=padding)
    with torch.no_grad():
        table.weight.copy_(start)
        if table.first <= padding < table.last:
            table.weight[padding - table.first] = 0
    model.block.set_submodule(name, table)
    model.items = items
    if config.block == "gsasrec":
        model.block.items = items
    return model


def ranked_by_shards(model: NextItem, asked: Questions, place: Place) -> np.ndarray:
    """Mid-ranks (Q,) of the targets among all items; every process must ask, and gets them all."""
    table = model.held
    assert isinstance(table, ShardedTable)
    length, device = model.config.length, table.weight.device
    own = torch.arange(table.first, table.last, device=device)
    real = (own >= 1) & (own <= model.items)
    found = []
    with torch.inference_mode():
        weight = model.compared(table.weight)
        for begin in range(0, len(asked), PIECE):
            part = slice(begin, begin + PIECE)
            histories, clocks = asked.histories(part), asked.clocks(part)
            time = following = None
            if model.timed and clocks is not None:
                time, following = (
                    torch.from_numpy(left_padded(clock, max(length, 1))).to(device)
                    for clock in ([one[:-1] for one in clocks], [one[1:] for one in clocks])
                )
            seen = torch.from_numpy(left_padded(histories, max(length, 1))).to(device)
            target = torch.from_numpy(asked.targets[part]).to(device)
            features = model(seen, time, following)[:, -1]
            mine = model.score_of(features, target)[:, None]
            scores = features @ weight.T
            scores[:, ~real] = -torch.inf
            out = target[:, None] == own
            if asked.seen == "drop":
                wide = torch.from_numpy(left_padded(histories, max(map(len, histories)))).to(device)
                inside = (wide >= table.first) & (wide < table.last)
                row = torch.arange(len(wide), device=device)[:, None].expand_as(wide)
                out[row[inside], wide[inside] - table.first] = True
            scores = scores.masked_fill(out, -torch.inf)
            above, level = (scores > mine).sum(1), (scores == mine).sum(1)
            counts = place.add(torch.stack([above, level]).double())
            found.append((1 + counts[0] + 0.5 * counts[1]).cpu().numpy())
    ranks = np.concatenate(found) if found else np.zeros(0)
    ranks[asked.targets == 0] = np.inf
    return ranks
