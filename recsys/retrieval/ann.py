"""Lists of candidates instead of a pass over the table (extra `ann`), and how much they miss.

    product    s(z, v) = z.v          moves by a normal of variance sum_d (z_d s_d)^2 with the items' spread s
    distance   s(z, v) = -|z - v|     moves by at most max_d s_d for each unit of the draw

Neighbour lists know means only, so they hide what was never shown: to the C items that they find come the C'
of the largest optimistic scores, two standard deviations up, of every group near the user. Scores and draws
are then exact on C + C'. `recall` says on users how many of the exact answer are among them, `missed` how
often an item outside might have won after all.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from core.errors import ConfigError, DataError, MissingExtraError
from recsys.models.slate import SlateNetwork
from recsys.retrieval.exact import ItemIndex
from recsys.slates import FIRST

LISTED, HOPEFUL, NEAR = 1000, 20, 10
"""C, C', and how many groups count as near a user."""
LINKS, EFFORT = 32, 256
"""Of the graph of neighbours: links an item, width of the search."""
LIBRARIES = ("faiss", "usearch")
SCORES = ("product", "distance")
Search = Callable[[np.ndarray, int], np.ndarray]
"""A user z (D,) and a count -> numbers of items."""


class AnnIndex:
    """Candidates by neighbour lists over means (I, D), with spreads (I, D) or (I,) and groups (I,).

    Raises:
        MissingExtraError: the library is not installed.
        ConfigError: no such library or score.
        DataError: shapes that do not fit.
    """

    def __init__(
        self,
        means: np.ndarray,
        spread: np.ndarray,
        group: np.ndarray,
        score: str = "product",
        library: str = "faiss",
    ) -> None:
        if library not in LIBRARIES or score not in SCORES:
            raise ConfigError(
                f"neighbour lists are made by {' or '.join(LIBRARIES)} for a {' or a '.join(SCORES)}, "
                f"not by {library!r} for {score!r}."
            )
        if group.shape != means.shape[:1] or spread.shape[0] != len(means):
            raise DataError(f"{len(means)} items, {spread.shape[0]} spreads and {group.shape[0]} groups.")
        self.means, self.product = np.ascontiguousarray(means, np.float32), score == "product"
        wide = spread[:, None] if spread.ndim == 1 else spread
        self.spread = np.broadcast_to(np.asarray(wide, np.float32), self.means.shape)
        graph = by_faiss if library == "faiss" else by_usearch
        self.search: Search = graph(self.means, self.product)
        order = np.argsort(group, kind="stable")
        self.members = np.split(order, np.cumsum(np.bincount(group))[:-1])
        self.members = [own for own in self.members if len(own)]
        self.centre = np.stack([self.means[own].mean(0) for own in self.members])

    @staticmethod
    def of(network: SlateNetwork, library: str) -> "AnnIndex":
        """Of a network's items, from the first one on."""
        spread = network.posterior.scales()["itemvec"]
        return AnnIndex(
            network.posterior.mean["itemvec"].detach().numpy()[FIRST:],
            spread.detach().numpy()[FIRST:],
            network.group.numpy()[FIRST:],
            "product" if network.config.score == "dot" else "distance",
            library,
        )

    def scores(self, z: np.ndarray, v: np.ndarray) -> np.ndarray:
        """s(z, v) of vectors (..., D)."""
        return v @ z if self.product else -np.sqrt(np.square(v - z).sum(-1))

    def optimistic(self, z: np.ndarray, items: np.ndarray, deviations: float) -> np.ndarray:
        """Scores of items, so many standard deviations up."""
        own = self.spread[items]
        moved = np.sqrt(np.square(own * z).sum(-1)) if self.product else own.max(-1)
        return self.scores(z, self.means[items]) + deviations * moved

    def candidates(self, z: np.ndarray, listed: int = LISTED, hopeful: int = HOPEFUL) -> np.ndarray:
        """Numbers of items that may win for one user z (D,), ascending."""
        z = np.ascontiguousarray(z, np.float32)
        parts = [self.search(z, min(listed, len(self.means)))]
        for group in np.argsort(-self.scores(z, self.centre), kind="stable")[:NEAR]:
            own = self.members[group]
            high = self.optimistic(z, own, 2.0)
            parts.append(own[np.argpartition(-high, min(hopeful, len(own)) - 1)[:hopeful]])
        return np.unique(np.concatenate(parts))

    def best(self, z: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
        """The k best (k,) of these ascending items by the means, ties by number."""
        return items[np.lexsort((items, -self.scores(z, self.means[items])))[:k]]

    def drawn(
        self, z: np.ndarray, items: np.ndarray, random: np.random.Generator, temperature: float, count: int
    ) -> np.ndarray:
        """Scores (count, n) of these items under so many draws of them."""
        means, spread = self.means[items], temperature * self.spread[items]
        if self.product:
            deviation = np.sqrt(np.square(spread * z).sum(-1))
            return means @ z + deviation * random.standard_normal((count, len(items)))
        return self.scores(z, means + spread * random.standard_normal((count, *means.shape), np.float32))

    def top(self, z: np.ndarray, k: int) -> np.ndarray:
        """The k best candidates (k,) of one user by the means, ties by number."""
        return self.best(z, self.candidates(z), k)

    def thompson(
        self, z: np.ndarray, k: int, random: np.random.Generator, temperature: float = 1.0
    ) -> np.ndarray:
        """The k best candidates (k,) of a draw, exact among them."""
        items = self.candidates(z)
        return items[np.lexsort((items, -self.drawn(z, items, random, temperature, 1)[0]))[:k]]


def by_faiss(means: np.ndarray, product: bool) -> Search:
    """The graph of faiss."""
    try:
        import faiss  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError('neighbour lists need faiss: pip install "recurra[ann]".') from error
    metric = faiss.METRIC_INNER_PRODUCT if product else faiss.METRIC_L2
    graph: Any = faiss.IndexHNSWFlat(means.shape[1], LINKS, metric)
    graph.hnsw.efSearch = EFFORT
    graph.add(means)

    def search(z: np.ndarray, count: int) -> np.ndarray:
        found = graph.search(z[None], count)[1][0]
        return found[found >= 0]

    return search


def by_usearch(means: np.ndarray, product: bool) -> Search:
    """The graph of usearch."""
    try:
        from usearch.index import Index  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError('neighbour lists need usearch: pip install "recurra[ann]".') from error
    metric = "ip" if product else "l2sq"
    graph: Any = Index(
        ndim=means.shape[1], metric=metric, dtype="f32", connectivity=LINKS, expansion_search=EFFORT
    )
    graph.add(np.arange(len(means)), means, threads=1)
    return lambda z, count: graph.search(z, count, threads=1).keys.astype(np.int64)


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
        edge = np.partition(index.scores(z, index.means[items]), -k)[-k]
        outside = np.setdiff1d(np.arange(len(index.means)), items)
        bound = index.optimistic(z, outside, deviations)
        count += bool(len(bound)) and bool(bound.max() > edge)
    return count / max(len(users), 1)
