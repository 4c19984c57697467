"""The one answer of this domain: where a track will be, for files, streams, pages and Python alike."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """Where a track will be, step by step. Steps beyond the model's horizon are NaN (null in `as_dict`)."""

    time_s: float
    """Time of the newest position that was used, on the track's clock."""
    ahead_s: np.ndarray
    """(K,) seconds after it."""
    anchor: np.ndarray
    """(D,) that position."""
    mean: np.ndarray
    """(K, D) metres."""
    covariance: np.ndarray | None = None
    """(K, D, D) square metres."""
    quantiles: np.ndarray | None = None
    """(K, 3, D) offsets from the mean at 10, 50 and 90 %, along `axes`."""
    axes: np.ndarray | None = None
    """(D, D), rows are the directions of the quantiles in the world: ahead, left, up."""
    radius: np.ndarray | None = None
    """(K,) metres: the conformal ball."""
    coverage: float = 0.9
    """How often that ball holds the truth on flights like those it was calibrated on."""

    def in_plane(self) -> "Prediction":
        """The same prediction without its height: for a mover that was laid into a plane."""
        return replace(
            self,
            anchor=self.anchor[:2],
            mean=self.mean[:, :2],
            covariance=None if self.covariance is None else self.covariance[:, :2, :2],
            quantiles=None if self.quantiles is None else self.quantiles[..., :2],
            axes=None if self.axes is None else self.axes[:2, :2],
        )

    def reaching(self, steps: int) -> "Prediction":
        """The same prediction with so many steps; those beyond the model are NaN."""
        known = len(self.mean)

        def cut(values: np.ndarray | None) -> np.ndarray | None:
            if values is None:
                return None
            padding = ((0, max(0, steps - known)), *((0, 0),) * (values.ndim - 1))
            return np.pad(values[:steps], padding, constant_values=np.nan)

        mean = cut(self.mean)
        assert mean is not None
        return replace(
            self,
            ahead_s=self.ahead_s[0] * np.arange(1, steps + 1),
            mean=mean,
            covariance=cut(self.covariance),
            quantiles=cut(self.quantiles),
            radius=cut(self.radius),
        )

    def as_dict(self, digits: int | None = None) -> dict[str, Any]:
        """For JSON: NaN and infinity become null.

        Args:
            digits: behind the point; None keeps all of them. A live line is read once, so it is kept short.
        """
        fields = {
            "t": self.time_s,
            "ahead_s": self.ahead_s,
            "anchor": self.anchor,
            "mean": self.mean,
            "covariance": self.covariance,
            "quantiles": self.quantiles,
            "axes": self.axes,
            "radius": self.radius,
        }
        told = {name: plain(value, digits) for name, value in fields.items() if value is not None}
        return {**told, "coverage": self.coverage} if self.radius is not None else told


def plain(value: Any, digits: int | None = None) -> Any:
    """Lists of finite numbers; a row without a single finite number becomes null."""
    if not isinstance(value, np.ndarray):
        return (value if digits is None else round(value, 9)) if np.isfinite(value) else None
    known = np.isfinite(value)
    rounded = value if digits is None else np.round(value, digits)
    if known.all():
        return rounded.tolist()
    if not value.ndim or (value.ndim == 1 and not known.any()):
        return None
    return [plain(row, digits) if row.ndim else (row.item() if np.isfinite(row) else None) for row in rounded]
