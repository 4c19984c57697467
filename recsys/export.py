"""ONNX of the state step and of scoring with the top-k inside, and the item table for other programs.

state.onnx    what was shown and clicked, state -> state
score.onnx    state -> the k best items and their scores
items.npy     vectors (I, D) float32;  items.parquet  id, group, vector, spread, quality, clicks, shown
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.export import export_network
from core.files import whole_file
from core.state import rebuild, tensors
from recsys.features import Steps
from recsys.model import SlateModel
from recsys.models.filter import FilterNetwork
from recsys.models.interest import InterestNetwork
from recsys.models.pair import PairNetwork
from recsys.predict import item_vectors
from recsys.slates import FIRST, NOTHING, SEARCH

DICE = "its state needs dice, a graph has none"
WHY: dict[type, str] = {
    PairNetwork: f"half of a pair is a filter: {DICE}. Export its network: --weights recsys-gru is the "
    "bundled one's, RUN/1-network that of a training.",
    FilterNetwork: f"a filter: {DICE}. Export the network that it was started from (bundled: recsys-gru).",
}
"""Why other weights are no graph, and which are."""


class StateStep(nn.Module):
    """(slate (B, S), click_idx (B,), lengths (B,), kind (B,), *state) -> state, by the items' means."""

    def __init__(self, network: InterestNetwork) -> None:
        super().__init__()
        self.network = network
        self.layout = network.initial_state(1)

    def forward(
        self, slate: Tensor, click_idx: Tensor, lengths: Tensor, kind: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        step = Steps(
            slate[:, None], click_idx[:, None], lengths[:, None], kind[:, None], (lengths > 0)[:, None]
        )
        after = self.network.advance(self.network.items.tables(), rebuild(self.layout, iter(state)), step)
        return tuple(part.clone() for part in tensors(after))


class Scoring(nn.Module):
    """State -> (items (B, k), scores (B, k)); a user of whom nothing is known has the initial state."""

    def __init__(self, network: InterestNetwork, k: int) -> None:
        super().__init__()
        self.network, self.k = network, k
        self.layout = network.initial_state(1)

    def forward(self, *state: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.network.rank_state(rebuild(self.layout, iter(state)))
        if torch.compiler.is_compiling():  # ONNX's own law for ties is ours: the lower number first
            best = scores.topk(self.k, dim=1)
            return best.indices, best.values
        values, indices = scores.sort(dim=1, descending=True, stable=True)
        return indices[:, : self.k], values[:, : self.k]


def export(model: SlateModel, folder: str | Path, k: int = 20) -> dict[str, Any]:
    """Write the graphs, each compared with torch on another batch, and the item table.

    Raises:
        ConfigError: a model whose state is no function of fixed size, or more items asked for than there are.
        MissingExtraError: the packages of the extra `export` are missing.
    """
    network, folder = model.network, Path(folder)
    if not isinstance(network, InterestNetwork):
        why = WHY.get(type(network), "only the interest network is exported (train --model network).")
        raise ConfigError(f"{model.name}: {why}")
    if not 1 <= k <= len(model.catalogue) - FIRST:
        raise ConfigError(f"k lies between 1 and the {len(model.catalogue) - FIRST} items, got {k}.")
    folder.mkdir(parents=True, exist_ok=True)
    network.within_group()  # worked out before the graph is drawn
    state = [part.clone() for part in tensors(network.initial_state(3))]
    names = [f"state{index}" for index in range(len(state))]
    free = {name: {0: "batch"} for name in ("slate", "click_idx", "lengths", "kind", *names)}
    free["slate"] = {0: "batch", 1: "slots"}
    inputs = example(model, 3, 6) | dict(zip(names, state, strict=True))
    other = warm(model, 5)
    check = example(model, 5, 9) | dict(zip(names, tensors(other), strict=True))
    graph = StateStep(network)
    after = [f"{name}_next" for name in names]
    step = export_network(graph, folder / "state.onnx", inputs, after, free=free, check=check,
                          bounds={"batch": (1, 65_536), "slots": (2, network.slots)})  # fmt: skip
    inputs = {name: part for name, part in zip(names, tensors(other), strict=True)}
    free = {name: {0: "batch"} for name in names}
    check = dict(zip(names, tensors(warm(model, 4)), strict=True))
    score = export_network(Scoring(network, k), folder / "score.onnx", inputs, ["items", "scores"],
                           free=free, check=check, bounds={"batch": (1, 65_536)})  # fmt: skip
    write_items(model, folder)
    return {
        "state": str(folder / "state.onnx"),
        "score": str(folder / "score.onnx"),
        "items": str(folder / "items.parquet"),
        "k": k,
        "difference": max(step, score),
        "inputs": {name: list(part.shape[1:]) for name, part in zip(names, state, strict=True)},
    }


def example(model: SlateModel, batch: int, slots: int) -> dict[str, Tensor]:
    """What was shown and clicked, for users one after the other."""
    items = len(model.catalogue)
    slate = torch.arange(batch * slots).reshape(batch, slots) % (items - FIRST) + FIRST
    slate[:, 0] = NOTHING
    whole = torch.full((batch,), slots)
    return {
        "slate": slate,
        "click_idx": torch.arange(batch) % slots,
        "lengths": whole,
        "kind": torch.full((batch,), SEARCH),
    }


def warm(model: SlateModel, batch: int) -> Any:
    """States that are not at their beginning."""
    network = model.network
    parts = example(model, batch, 5)
    step = Steps(
        parts["slate"][:, None],
        parts["click_idx"][:, None],
        parts["lengths"][:, None],
        parts["kind"][:, None],
        torch.ones(batch, 1, dtype=torch.bool),
    )
    with torch.no_grad():
        return network.advance(network.items.tables(), network.initial_state(batch), step)


def write_items(model: SlateModel, folder: Path) -> None:
    """The table of items without reserved ids; row i of both files is the same item."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = item_vectors(model.network)[FIRST:].float().numpy()
    with torch.no_grad():
        spread, _ = model.network.items.scales()
        quality = model.network.items.tables().q[FIRST:].numpy()
    numbers = range(FIRST, len(model.catalogue))
    columns = {
        "item": [str(model.catalogue.name(number)) for number in numbers],
        "group": model.catalogue.group[FIRST:],
        "vector": list(vectors),
        "spread": list(spread[FIRST:].float().numpy()),
        "quality": quality,
        "clicks": model.counts.clicked[FIRST:].numpy().astype(np.int64),
        "shown": model.counts.shown[FIRST:].numpy().astype(np.int64),
    }
    with whole_file(folder / "items.npy") as partial, open(partial, "wb") as file:
        np.save(file, vectors, allow_pickle=False)
    with whole_file(folder / "items.parquet") as partial:
        pq.write_table(pa.table(columns), partial)
