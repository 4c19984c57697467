"""Figures of tracking: MOTA (CLEAR), IDF1 (Identity) and HOTA, from similarities of each frame.

HOTA: Luiten et al. 2020, arXiv 2009.07736.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from vision.pointcloud.iou import iou_bev

ALPHAS = np.arange(0.05, 0.99, 0.05)
EPS = np.finfo(float).eps


@dataclass(frozen=True)
class TrackedFrame:
    """Identities of the truths and the tracks of a frame, numbered from 0, and how alike they are."""

    truth: np.ndarray
    """(T,) int"""
    tracks: np.ndarray
    """(K,) int"""
    similarity: np.ndarray
    """(T, K), 0..1"""


def tracked_frames(truth: np.ndarray, tracks: np.ndarray, frames: int) -> list[TrackedFrame]:
    """Frames from rows frame, identity, box (7); similarity is the overlap seen from above."""
    numbers = []
    for rows in (truth, tracks):
        _, number = np.unique(rows[:, 1], return_inverse=True)
        numbers.append(number)
    out = []
    for frame in range(frames):
        a, b = truth[:, 0] == frame, tracks[:, 0] == frame
        out.append(TrackedFrame(numbers[0][a], numbers[1][b], iou_bev(truth[a, 2:9], tracks[b, 2:9])))
    return out


def sizes(frames: Sequence[TrackedFrame]) -> tuple[int, int]:
    """How many identities truths and tracks have."""
    return (
        max((int(f.truth.max()) for f in frames if len(f.truth)), default=-1) + 1,
        max((int(f.tracks.max()) for f in frames if len(f.tracks)), default=-1) + 1,
    )


def clear(frames: Sequence[TrackedFrame], threshold: float = 0.5) -> dict[str, float]:
    """MOTA and what it is made of; pairs of the last frame are kept where they still overlap enough."""
    truths, _ = sizes(frames)
    found = false = missed = switches = 0
    likeness = 0.0
    ever, last = np.full(truths, np.nan), np.full(truths, np.nan)
    seen, tracked, pieces = np.zeros(truths), np.zeros(truths), np.zeros(truths)
    for frame in frames:
        if not len(frame.truth):
            false += len(frame.tracks)
            continue
        if not len(frame.tracks):
            missed += len(frame.truth)
            seen[frame.truth] += 1
            continue
        score = 1000.0 * (frame.tracks[None] == last[frame.truth][:, None]) + frame.similarity
        score[frame.similarity < threshold - EPS] = 0
        rows, columns = linear_sum_assignment(-score)
        good = score[rows, columns] > EPS
        rows, columns = rows[good], columns[good]
        who, by = frame.truth[rows], frame.tracks[columns]
        switches += int((~np.isnan(ever[who]) & (ever[who] != by)).sum())
        seen[frame.truth] += 1
        tracked[who] += 1
        before = np.isnan(last)
        ever[who] = by
        last[:] = np.nan
        last[who] = by
        pieces += before & ~np.isnan(last)
        found += len(rows)
        missed += len(frame.truth) - len(rows)
        false += len(frame.tracks) - len(rows)
        likeness += float(frame.similarity[rows, columns].sum())
    share = tracked[seen > 0] / seen[seen > 0]
    mostly, partly = int((share > 0.8).sum()), int((share >= 0.2).sum())
    return {
        "MOTA": (found - false - switches) / max(1, found + missed),
        "MOTP": likeness / max(1, found),
        "IDSW": switches,
        "MT": mostly,
        "PT": partly - mostly,
        "ML": truths - partly,
        "Frag": float((pieces[pieces > 0] - 1).sum()),
        "CLR_TP": found,
        "CLR_FP": false,
        "CLR_FN": missed,
    }


def identity(frames: Sequence[TrackedFrame], threshold: float = 0.5) -> dict[str, float]:
    """IDF1: one assignment of whole identities, over all frames."""
    truths, tracks = sizes(frames)
    both = np.zeros((truths, tracks))
    truth_count, track_count = np.zeros(truths), np.zeros(tracks)
    for frame in frames:
        rows, columns = np.nonzero(frame.similarity >= threshold)
        both[frame.truth[rows], frame.tracks[columns]] += 1
        truth_count[frame.truth] += 1
        track_count[frame.tracks] += 1
    size = truths + tracks
    false, missed = np.zeros((size, size)), np.zeros((size, size))
    false[truths:, :tracks] = missed[:truths, tracks:] = 1e10
    missed[:truths, :tracks] = truth_count[:, None]
    missed[np.arange(truths), tracks + np.arange(truths)] = truth_count
    false[:truths, :tracks] = track_count[None]
    false[truths + np.arange(tracks), np.arange(tracks)] = track_count
    missed[:truths, :tracks] -= both
    false[:truths, :tracks] -= both
    rows, columns = linear_sum_assignment(missed + false)
    fn, fp = float(missed[rows, columns].sum()), float(false[rows, columns].sum())
    tp = float(truth_count.sum()) - fn
    return {
        "IDF1": tp / max(1, tp + 0.5 * fp + 0.5 * fn),
        "IDP": tp / max(1, tp + fp),
        "IDR": tp / max(1, tp + fn),
        "IDTP": tp,
        "IDFP": fp,
        "IDFN": fn,
    }


def hota(frames: Sequence[TrackedFrame]) -> dict[str, np.ndarray]:
    """HOTA and its parts at 19 thresholds of similarity."""
    truths, tracks = sizes(frames)
    both = np.zeros((truths, tracks))
    truth_count, track_count = np.zeros((truths, 1)), np.zeros((1, tracks))
    for frame in frames:
        s = frame.similarity
        whole = s.sum(0)[None] + s.sum(1)[:, None] - s
        both[np.ix_(frame.truth, frame.tracks)] += np.divide(
            s, whole, out=np.zeros_like(s), where=whole > EPS
        )
        truth_count[frame.truth, 0] += 1
        track_count[0, frame.tracks] += 1
    whole = truth_count + track_count - both
    alignment = np.divide(both, whole, out=np.zeros_like(both), where=whole > 0)
    n = len(ALPHAS)
    tp, fn, fp, likeness = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    pairs = np.zeros((n, truths, tracks))
    for frame in frames:
        rows, columns = linear_sum_assignment(
            -(alignment[np.ix_(frame.truth, frame.tracks)] * frame.similarity)
        )
        alike = frame.similarity[rows, columns]
        for a, alpha in enumerate(ALPHAS):
            good = alike >= alpha - EPS
            tp[a] += good.sum()
            fn[a] += len(frame.truth) - good.sum()
            fp[a] += len(frame.tracks) - good.sum()
            likeness[a] += alike[good].sum()
            pairs[a, frame.truth[rows[good]], frame.tracks[columns[good]]] += 1
    share = pairs / np.maximum(1, truth_count + track_count - pairs)
    at_least = np.maximum(1, tp)
    out = {
        "DetA": tp / np.maximum(1, tp + fn + fp),
        "AssA": (pairs * share).sum((1, 2)) / at_least,
        "LocA": np.maximum(1e-10, likeness) / np.maximum(1e-10, tp),
        "DetRe": tp / np.maximum(1, tp + fn),
        "DetPr": tp / np.maximum(1, tp + fp),
        "AssRe": (pairs * pairs / np.maximum(1, truth_count)).sum((1, 2)) / at_least,
        "AssPr": (pairs * pairs / np.maximum(1, track_count)).sum((1, 2)) / at_least,
    }
    return {"HOTA": np.sqrt(out["DetA"] * out["AssA"]), **out}
