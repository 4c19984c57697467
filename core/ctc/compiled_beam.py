"""The prefix beam compiled: the same search as `PrefixBeam` without rules, for whole lines.

Plain version: `PrefixBeam`. Same pruning, same ranking, ties to the older prefix; sums in double precision.
The character model becomes arrays once for an alphabet: a state is a history that has followers, its row
holds them in order of label, and what is not in it is looked up in the state of the shorter history.

What cannot come into the beam is not made: each frame first ranks the prefixes that stay, and extends a
prefix by the symbols of a frame, best first, until the rest would lie below the last of them. The result is
that of the plain version.
"""

from typing import NamedTuple

import numpy as np

from core.ctc.char_lm import BEGIN, END, UNKNOWN, CharLM
from core.ctc.prefix_beam import NONE, Hypothesis
from core.kernels.jit import compiled


class LabelModel(NamedTuple):
    """A character model over labels 1..V-1; 0 stands for the end of the line."""

    starts: np.ndarray
    """Row of state s: places starts[s] .. starts[s + 1] of the next three."""
    labels: np.ndarray
    logs: np.ndarray
    nexts: np.ndarray
    backoffs: np.ndarray
    shorter: np.ndarray
    """State of the history without its oldest symbol; -1 for the empty one."""
    begin: int
    unknown: float
    """ln P of a label that the model does not know, after the empty history."""


NO_MODEL = LabelModel(
    np.zeros(2, np.int64),
    np.zeros(0, np.int64),
    np.zeros(0),
    np.zeros(0, np.int64),
    np.zeros(1),
    np.full(1, -1, np.int64),
    0,
    0.0,
)


def label_model(lm: CharLM, symbols: tuple[str, ...]) -> LabelModel:
    """The arrays of a character model for an alphabet whose symbol i has label i + 1."""
    number = {symbol: label for label, symbol in enumerate(symbols, 1)}
    number[END] = 0
    states: dict[tuple[str, ...], int] = {(): 0}
    for history in lm.backoffs:
        states.setdefault(history, len(states))
    rows: list[list[tuple[int, float, int]]] = [[] for _ in states]
    longest = lm.order - 1
    for gram, score in lm.scores.items():
        label = number.get(gram[-1])
        if label is None or gram[:-1] not in states:
            continue
        after = gram[-longest:] if longest else ()
        while after not in states:
            after = after[1:]
        rows[states[gram[:-1]]].append((label, score, states[after]))
    for row in rows:
        row.sort()
    flat = [entry for row in rows for entry in row]
    starts = np.cumsum([0, *map(len, rows)])
    shorter = np.full(len(states), -1, np.int64)
    for history, state in states.items():
        rest = history[1:]
        while history and rest not in states:
            rest = rest[1:]
        if history:
            shorter[state] = states[rest]
    backoffs = np.zeros(len(states))
    for history, back in lm.backoffs.items():
        backoffs[states[history]] = back
    return LabelModel(
        starts,
        np.array([entry[0] for entry in flat], np.int64),
        np.array([entry[1] for entry in flat], np.float64),
        np.array([entry[2] for entry in flat], np.int64),
        backoffs,
        shorter,
        states.get((BEGIN,), 0),
        lm.scores[(UNKNOWN,)],
    )


@compiled
def log_sum(a: float, b: float) -> float:
    if a < b:
        a, b = b, a
    return a if b == -np.inf else a + np.log1p(np.exp(b - a))


@compiled
def ask(
    state: int,
    label: int,
    starts: np.ndarray,
    labels: np.ndarray,
    logs: np.ndarray,
    nexts: np.ndarray,
    backoffs: np.ndarray,
    shorter: np.ndarray,
    unknown: float,
) -> tuple[float, int]:
    """ln P of a label after a state, and the state after it."""
    penalty = 0.0
    while True:
        low, high = starts[state], starts[state + 1]
        while low < high:
            middle = (low + high) // 2
            if labels[middle] < label:
                low = middle + 1
            else:
                high = middle
        if low < starts[state + 1] and labels[low] == label:
            return penalty + logs[low], nexts[low]  # pyright: ignore[reportReturnType]  (numba's scalars)
        penalty += backoffs[state]
        if shorter[state] < 0:
            return penalty + unknown, 0
        state = shorter[state]


@compiled
def choose(frame: np.ndarray, top: int, floor: float, skip: float, chosen: np.ndarray) -> int:
    """How many symbols may extend a prefix in a frame; they stand in `chosen`, in order of label."""
    if frame[0] >= skip:
        return 0
    size, best = 0, frame.max()
    for s in range(1, len(frame)):
        if frame[s] >= best - floor and frame[s] > -np.inf:
            chosen[size] = s
            size += 1
    if size > top or top < len(frame) - 1:
        # the blank takes a place among the top + 1 of the frame, as in the plain version
        limit = frame[np.argsort(-frame)[: top + 1][-1]]
        kept = 0
        for k in range(size):
            if frame[chosen[k]] >= limit:
                chosen[kept] = chosen[k]
                kept += 1
        size = kept
    return size


@compiled
def search(
    y: np.ndarray,
    width: int,
    top: int,
    floor: float,
    skip: float,
    alpha: float,
    beta: float,
    use_lm: bool,
    begin: int,
    unknown: float,
    starts: np.ndarray,
    labels: np.ndarray,
    logs: np.ndarray,
    nexts: np.ndarray,
    backoffs: np.ndarray,
    shorter: np.ndarray,
) -> tuple[
    np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray
]:
    """Nodes (parent, label, born, length, lm, state) and the final beam (node, b, nb)."""
    T, V = y.shape
    room = 1 + 4 * width
    parent, label = np.full(room, -1), np.full(room, -1)
    born, length, state = np.full(room, -1), np.zeros(room, np.int64), np.zeros(room, np.int64)
    child, sibling = np.full(room, -1), np.full(room, -1)
    lm, stamp, spot = np.zeros(room), np.full(room, -1), np.zeros(room, np.int64)
    state[0] = begin
    count = 1
    keys, b, nb = np.zeros(1, np.int64), np.zeros(1), np.full(1, -np.inf)
    chosen, taken = np.zeros(V, np.int64), np.zeros(V, np.bool_)
    below = np.full(V, -1)  # the children of a prefix by their label
    for t in range(T):
        frame = y[t]
        size = choose(frame, top, floor, skip, chosen)
        taken[:] = False
        taken[chosen[:size]] = True
        order = chosen[:size][np.argsort(-frame[chosen[:size]])]
        held = len(keys)
        for i in range(held):
            stamp[keys[i]], spot[keys[i]] = t, i
        # prefixes that stay, with what their parent in the beam gives them
        b_new, nb_new, rank = np.empty(held), np.full(held, -np.inf), np.empty(held)
        turn = np.empty(held, np.int64)
        for i in range(held):
            key = keys[i]
            last, above = label[key], parent[key]
            b_new[i] = log_sum(b[i], nb[i]) + frame[0]
            turn[i] = i * V
            if last < 0:
                rank[i] = b_new[i]
            else:
                nb_new[i] = nb[i] + frame[last]
                if taken[last] and stamp[above] == t:
                    j = spot[above]
                    mass = (b[j] if label[above] == last else log_sum(b[j], nb[j])) + frame[last]
                    if mass > -np.inf:
                        nb_new[i] = log_sum(nb_new[i], mass)
                        turn[i] = min(turn[i], j * V + last)
                rank[i] = log_sum(b_new[i], nb_new[i])
            rank[i] += alpha * lm[key] + beta * length[key]
        # an extension below the last of a full beam cannot come into it: the model only takes away
        limit = np.sort(rank)[held - width] if held >= width and alpha >= 0 else -np.inf
        needed = count + held * size
        if needed > len(parent):
            grown = max(needed, 2 * len(parent))
            parent, label, born = extend(parent, grown), extend(label, grown), extend(born, grown)
            length, state, stamp = extend(length, grown), extend(state, grown), extend(stamp, grown)
            child, sibling, spot = extend(child, grown), extend(sibling, grown), extend(spot, grown)
            lm = widen(lm, grown)
        room = held * size
        more, more_nb, more_rank = np.empty(room, np.int64), np.empty(room), np.empty(room)
        more_turn = np.empty(room, np.int64)
        many = 0
        for i in range(held):
            key = keys[i]
            total, last = log_sum(b[i], nb[i]), label[key]
            told = alpha * lm[key] + beta * (length[key] + 1)
            if size and total + frame[order[0]] + told < limit:
                continue
            found = child[key]
            while found >= 0:
                below[label[found]] = found
                found = sibling[found]
            for k in range(size):
                s = order[k]
                if total + frame[s] + told < limit:
                    break
                mass = (b[i] if s == last else total) + frame[s]
                if mass == -np.inf or mass + told < limit:
                    continue
                found = below[s]
                if found >= 0 and stamp[found] == t:
                    continue  # it stays in the beam, and has this mass already
                if found < 0:
                    found = count
                    count += 1
                    parent[found], label[found], born[found] = key, s, t
                    length[found], child[found], stamp[found] = length[key] + 1, -1, -1
                    sibling[found] = child[key]
                    child[key] = found
                    lm[found], state[found] = lm[key], 0
                    if use_lm:
                        gained, after = ask(
                            state[key], s, starts, labels, logs, nexts, backoffs, shorter, unknown
                        )
                        lm[found] += gained
                        state[found] = after
                more[many], more_nb[many], more_turn[many] = found, mass, i * V + s
                more_rank[many] = mass + alpha * lm[found] + beta * length[found]
                many += 1
            found = child[key]
            while found >= 0:
                below[label[found]] = -1
                found = sibling[found]
        every = np.concatenate((keys, more[:many]))
        every_b = np.concatenate((b_new, np.full(many, -np.inf)))
        every_nb = np.concatenate((nb_new, more_nb[:many]))
        every_rank = np.concatenate((rank, more_rank[:many]))
        every_turn = np.concatenate((turn, more_turn[:many]))
        kept = np.arange(len(every))
        if len(every) > width:  # only those that may be among the best are put in order
            kept = np.flatnonzero(every_rank >= -np.partition(-every_rank, width - 1)[width - 1])
        first = kept[np.argsort(every_turn[kept], kind="mergesort")]
        best = first[np.argsort(-every_rank[first], kind="mergesort")][:width]
        keys, b, nb = every[best], every_b[best], every_nb[best]
    return parent[:count], label[:count], born[:count], length[:count], lm[:count], state[:count], keys, b, nb


@compiled
def extend(values: np.ndarray, size: int) -> np.ndarray:
    out = np.full(size, -1)
    out[: len(values)] = values
    return out


@compiled
def widen(values: np.ndarray, size: int) -> np.ndarray:
    out = np.zeros(size)
    out[: len(values)] = values
    return out


def fast_beam(
    log_probs: np.ndarray,
    width: int = 25,
    count: int = 1,
    *,
    lm: LabelModel | None = None,
    alpha: float = 0.0,
    beta: float = 0.0,
    top: int | None = None,
    floor: float | None = None,
    skip: float | None = None,
) -> list[Hypothesis]:
    """The best `count` labellings of log-probabilities (T, V), blank 0; arguments as those of `PrefixBeam`.

    Raises:
        ValueError: not a matrix, or a width below 1.
    """
    y = np.ascontiguousarray(log_probs, dtype=np.float64)
    if y.ndim != 2 or not y.shape[1] or width < 1:
        raise ValueError(f"a beam of 1 or more over log-probabilities (T, V); got {width} and {y.shape}")
    model = NO_MODEL if lm is None else lm
    arrays = model.starts, model.labels, model.logs, model.nexts, model.backoffs, model.shorter
    parent, label, born, length, scores, state, keys, b, nb = search(
        y,
        width,
        y.shape[1] if top is None else top,
        np.inf if floor is None else floor,
        np.inf if skip is None else skip,
        alpha,
        beta,
        lm is not None,
        model.begin,
        model.unknown,
        *arrays,
    )
    found = []
    for place, key in enumerate(keys.tolist()):
        ctc = float(np.logaddexp(b[place], nb[place]))
        total = float(scores[key])
        if lm is not None:
            total += ask(int(state[key]), 0, *arrays, model.unknown)[0]
        score = ctc + alpha * total + beta * int(length[key])
        if score > NONE:
            found.append((-score, place, key, ctc, total))
    found.sort()
    return [
        Hypothesis(*spelled(parent, label, born, key, ctc, total, -negative))
        for negative, _, key, ctc, total in found[:count]
    ]


def spelled(
    parent: np.ndarray,
    label: np.ndarray,
    born: np.ndarray,
    key: int,
    ctc: float,
    lm: float,
    score: float,
) -> tuple[tuple[int, ...], float, float, float, tuple[int, ...]]:
    """The fields of a hypothesis."""
    labels, frames = [], []
    while key > 0:
        labels.append(int(label[key]))
        frames.append(int(born[key]))
        key = int(parent[key])
    return tuple(labels[::-1]), ctc, lm, score, tuple(frames[::-1])
