"""Lists of candidates instead of a pass over the table (extra `ann`), and how much they miss.

Neighbour lists know means only, so they hide what was never shown: to the C items that they find come the C'
of the largest optimistic scores z.m + 2 sd of every group near the user. Scores and draws are then exact on
C + C'. `recall` says on users how many of the exact answer are among them, `missed` how often an item outside
might have won after all.
"""

from typing import Any

import numpy as np

from core.errors import DataError, MissingExtraError
from recsys.retrieval.exact import ItemIndex

LISTED, HOPEFUL, NEAR = 1000, 20, 10
"""C, C', and how many groups count as near a user."""
LINKS, EFFORT = 32, 256
"""Of the graph of neighbours: links an item, width of the search."""


class AnnIndex:
    """Candidates by neighbour lists over means (I, D), with spreads (I, D) or (I,) and groups (I,).

    Raises:
        MissingExtraError: faiss is not installed.
        DataError: shapes that do not fit.
    """

    def __init__(self, means: np.ndarray, spread: np.ndarray, group: np.ndarray) -> None:
        try:
            import faiss  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtraError('neighbour lists need faiss: pip install "recurra[ann]".') from error
        if group.shape != means.shape[:1] or spread.shape[0] != len(means):
            raise DataError(f"{len(means)} items, {spread.shape[0]} spreads and {group.shape[0]} groups.")
        self.means = np.ascontiguousarray(means, np.float32)
        wide = spread[:, None] if spread.ndim == 1 else spread
        self.square = np.broadcast_to(np.asarray(wide, np.float32) ** 2, self.means.shape)
        graph: Any = faiss.IndexHNSWFlat(means.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efSearch = EFFORT
        graph.add(self.means)
        self.graph = graph
        order = np.argsort(group, kind="stable")
        self.members = np.split(order, np.cumsum(np.bincount(group))[:-1])
        self.centre = np.stack(
            [self.means[own].mean(0) if len(own) else 0 * self.means[0] for own in self.members]
        )

    def candidates(self, z: np.ndarray, listed: int = LISTED, hopeful: int = HOPEFUL) -> np.ndarray:
        """Numbers of items that may win for one user z (D,), ascending."""
        _, found = self.graph.search(np.ascontiguousarray(z[None], np.float32), min(listed, len(self.means)))
        near = np.argsort(-(self.centre @ z), kind="stable")[:NEAR]
        parts = [found[0][found[0] >= 0]]
        for group in near:
            own = self.members[group]
            if len(own):
                high = self.means[own] @ z + 2 * np.sqrt(self.square[own] @ z**2)
                parts.append(own[np.argpartition(-high, min(hopeful, len(own)) - 1)[:hopeful]])
        return np.unique(np.concatenate(parts))

    def top(self, z: np.ndarray, k: int) -> np.ndarray:
        """The k best candidates (k,) of one user by the means, ties by number."""
        items = self.candidates(z)
        scores = self.means[items] @ z
        return items[np.lexsort((items, -scores))[:k]]

    def thompson(
        self, z: np.ndarray, k: int, random: np.random.Generator, temperature: float = 1.0
    ) -> np.ndarray:
        """The k best candidates (k,) of a draw, exact among them."""
        items = self.candidates(z)
        deviation = temperature * np.sqrt(self.square[items] @ z**2)
        scores = self.means[items] @ z + deviation * random.standard_normal(len(items))
        return items[np.lexsort((items, -scores))[:k]]


def recall(index: AnnIndex, exact: ItemIndex, users: np.ndarray, k: int) -> float:
    """Share of the exact k best of users (U, D) that the candidates hold."""
    wanted, _ = exact.top(users, k)
    held = [np.isin(row, index.candidates(z)).mean() for row, z in zip(wanted, users, strict=True)]
    return float(np.mean(held))


def missed(index: AnnIndex, users: np.ndarray, k: int, deviations: float = 4.0) -> float:
    """Share of users (U, D) for whom an item outside could reach the k-th best candidate by its bound."""
    count = 0
    for z in users:
        items = index.candidates(z)
        edge = np.partition(index.means[items] @ z, -k)[-k]
        outside = np.ones(len(index.means), bool)
        outside[items] = False
        bound = index.means[outside] @ z + deviations * np.sqrt(index.square[outside] @ z**2)
        count += bool(len(bound)) and bool(bound.max() > edge)
    return count / max(len(users), 1)
