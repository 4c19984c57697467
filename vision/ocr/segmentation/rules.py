"""Ruled lines of a page, also broken and slanted ones: straight pieces, chained where they go on.

A piece survives an opening along its direction after the ink was thickened across it, so a slant of about
three degrees passes. Pieces whose ends meet, within a gap, are one rule.
"""

from dataclasses import dataclass

import cv2
import numpy as np

GAP = 0.08
"""Of the page's side, at most, that a rule may be broken."""
COVERED = 0.5
"""Of its length, at least, that a rule must be drawn in pieces of a twentieth of the page or longer."""


@dataclass(frozen=True)
class Rule:
    """A line along one axis: `across` at the places `along`, both ascending pieces' ends."""

    along: np.ndarray
    across: np.ndarray
    drawn: float
    """Pixels of it that are there in long pieces."""

    @property
    def start(self) -> float:
        return float(self.along[0])

    @property
    def end(self) -> float:
        return float(self.along[-1])

    @property
    def length(self) -> float:
        return self.end - self.start

    @property
    def middle(self) -> float:
        return float(np.average(self.across))

    def at(self, place: np.ndarray | float) -> np.ndarray:
        """Where it lies at places along it; beyond its ends on the straight line through them."""
        place = np.asarray(place, float)
        slope = (self.across[-1] - self.across[0]) / max(self.length, 1.0)
        inside = np.interp(place, self.along, self.across)
        return inside + slope * (np.minimum(place - self.start, 0) + np.maximum(place - self.end, 0))


def find_rules(binary: np.ndarray) -> tuple[list[Rule], list[Rule]]:
    """Vertical and horizontal rules of a thresholded page (H, W) of 0 and 1."""
    vertical = chained(straight(np.ascontiguousarray(binary.T)), binary.shape[0])
    return vertical, chained(straight(binary), binary.shape[1])


def straight(binary: np.ndarray) -> list[Rule]:
    """Straight thin horizontal pieces of at least a fortieth of the width."""
    width = binary.shape[1]
    length = max(12, width // 40)
    fat = cv2.dilate(binary, np.ones((3, 1), np.uint8))
    kept = cv2.morphologyEx(fat, cv2.MORPH_OPEN, np.ones((1, length), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(kept, connectivity=8)
    thick = max(9.0, width / 150)
    found = []
    for i in range(1, count):
        x, y, w, h, area = (int(v) for v in stats[i])
        if area > thick * w:
            continue
        rows, columns = np.nonzero(labels[y : y + h, x : x + w] == i)
        slope, level = np.polyfit(columns, rows, 1)
        if np.percentile(np.abs(rows - slope * columns - level), 90) > 4 + 0.01 * w:
            continue
        ends = np.array([0.0, w - 1.0])
        drawn = float(w) if w >= 2 * length else 0.0  # strokes of letters are as long as the shortest pieces
        found.append(Rule(x + ends, y + level + slope * ends, drawn))
    return sorted(found, key=lambda piece: piece.start)


def chained(pieces: list[Rule], side: int) -> list[Rule]:
    """Pieces that go on in each other as one rule; a piece alone is a rule of its own."""
    open_ends: list[Rule] = []
    for piece in pieces:
        best: tuple[float, int] | None = None
        for number, rule in enumerate(open_ends):
            gap = piece.start - rule.end
            if not -0.02 * side <= gap <= GAP * side or piece.end <= rule.end:
                continue
            misfit = abs(float(rule.at(piece.start)) - piece.across[0])
            misfit = min(misfit, abs(float(piece.at(rule.end)) - rule.across[-1]))
            if misfit <= 3 + 0.02 * max(gap, 0) and (best is None or misfit < best[0]):
                best = (misfit, number)
        if best is None:
            open_ends.append(piece)
            continue
        rule = open_ends[best[1]]
        new = piece.along > rule.end
        open_ends[best[1]] = Rule(
            np.concatenate([rule.along, piece.along[new]]),
            np.concatenate([rule.across, piece.across[new]]),
            rule.drawn + min(piece.drawn, piece.end - rule.end),
        )
    return [rule for rule in open_ends if rule.drawn >= COVERED * rule.length]


def erased(binary: np.ndarray, vertical: list[Rule], horizontal: list[Rule], width: int = 7) -> np.ndarray:
    """The page without its rules: letters that touch them stay, cut where the rule was."""
    out = binary.copy()
    for rules, flip in ((vertical, True), (horizontal, False)):
        for rule in rules:
            points = np.stack([rule.along, rule.across], 1)[:, :: -1 if flip else 1]
            cv2.polylines(out, [np.round(points).astype(np.int32)], False, 0, width)  # pyright: ignore
    return out
