"""What every trajectory network answers."""

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Forecast:
    """Predicted positions of a batch of tracks for the next K steps, in metres of the world."""

    mean: Tensor
    """(B, K, D) positions."""
    spread: Tensor
    """(B, K) metres that the model expects its error to have; what conformal radii are scaled by."""
    cholesky: Tensor | None = None
    """(B, K, D, D) lower triangular factor of the covariance in the axes below."""
    quantiles: Tensor | None = None
    """(B, K, 3, D) offsets from the mean at 10, 50 and 90 %, along the axes below."""
    axes: Tensor | None = None
    """(B, D, D), rows are the directions of the two fields above in the world; None: the world's own."""

    def at(self, position: Tensor) -> "Forecast":
        """The same forecast seen from position (B, D): moves a mean that counts from the newest sample."""
        return replace(self, mean=position[:, None] + self.mean)

    def scaled(self, factor: float) -> "Forecast":
        """The same forecast with every length times a factor."""
        parts = {"mean": self.mean, "spread": self.spread, "cholesky": self.cholesky}
        parts["quantiles"] = self.quantiles
        return replace(self, **{name: value * factor for name, value in parts.items() if value is not None})

    def cpu(self) -> "Forecast":
        """The same forecast with its tensors on the CPU."""
        parts = {name: value.cpu() for name, value in vars(self).items() if value is not None}
        return replace(self, **parts)

    def covariance(self) -> Tensor | None:
        """(B, K, D, D) in the axes of the world."""
        if self.cholesky is None:
            return None
        factor = self.cholesky if self.axes is None else self.axes[:, None].transpose(-1, -2) @ self.cholesky
        return factor @ factor.transpose(-1, -2)
