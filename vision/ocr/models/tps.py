"""Thin-plate-spline rectification (Shi et al. 2016): the sampling grid of F control points.

    P_hat = [1, P, r^2 log r],   P' = P_hat inv(delta_C) [C'; 0]

P are pixel centres of the output, C the base control points (two rows), C' where they lie in the input. The
localiser that finds C' has the names of the scene-text benchmark, but no check vectors: its details are ours.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-6


class GridGenerator(nn.Module):
    """control points (B, F, 2) -> grid (B, H, W, 2)."""

    def __init__(self, F: int, I_r_size: tuple[int, int]) -> None:
        super().__init__()
        self.size = tuple(I_r_size)
        C = base_points(F)
        self.register_buffer("inv_delta_C", torch.from_numpy(inverse(C)).float())
        self.register_buffer("P_hat", torch.from_numpy(features(pixels(*self.size), C)).float())

    def forward(self, control: Tensor) -> Tensor:
        points = torch.cat([control, control.new_zeros(control.shape[0], 3, 2)], 1)
        found = self.P_hat @ (self.inv_delta_C @ points)  # pyright: ignore[reportOperatorIssue]
        return found.view(control.shape[0], *self.size, 2)


class LocalizationNetwork(nn.Module):
    """images (B, C, H, W) -> control points (B, F, 2); at the start they are two sloped rows."""

    def __init__(self, points: int, inputs: int) -> None:
        super().__init__()
        self.points = points
        layers: list[nn.Module] = []
        before = inputs
        for number, width in enumerate((64, 128, 256, 512)):
            layers += [nn.Conv2d(before, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            layers.append(nn.MaxPool2d(2, 2) if number < 3 else nn.AdaptiveAvgPool2d(1))
            before = width
        self.conv = nn.Sequential(*layers)
        self.localization_fc1 = nn.Sequential(nn.Linear(512, 256), nn.ReLU())
        self.localization_fc2 = nn.Linear(256, 2 * points)
        half = points // 2
        x = np.linspace(-1.0, 1.0, half)
        top = np.stack([x, np.linspace(0.0, -1.0, half)], 1)
        bottom = np.stack([x, np.linspace(1.0, 0.0, half)], 1)
        nn.init.zeros_(self.localization_fc2.weight)
        with torch.no_grad():
            self.localization_fc2.bias.copy_(
                torch.from_numpy(np.concatenate([top, bottom])).float().flatten()
            )

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv(images).flatten(1)
        return self.localization_fc2(self.localization_fc1(features)).view(len(images), self.points, 2)


class Rectify(nn.Module):
    """images (B, C, H, W) -> the same size, straightened by the splines of found control points."""

    def __init__(self, points: int, size: tuple[int, int], inputs: int) -> None:
        super().__init__()
        self.LocalizationNetwork = LocalizationNetwork(points, inputs)
        self.GridGenerator = GridGenerator(points, size)

    def forward(self, images: Tensor) -> Tensor:
        return rectified(images, self.GridGenerator(self.LocalizationNetwork(images)))


def fiducials(tensors: Mapping[str, Tensor]) -> int:
    """Control points of a checkpoint's localiser."""
    return len(tensors["Transformation.LocalizationNetwork.localization_fc2.bias"]) // 2


def base_points(count: int) -> np.ndarray:
    """Control points of the output (F, 2): a row at the top, one at the bottom."""
    x = np.linspace(-1.0, 1.0, count // 2)
    top, bottom = -np.ones(count // 2), np.ones(count // 2)
    return np.concatenate([np.stack([x, top], 1), np.stack([x, bottom], 1)])


def inverse(C: np.ndarray) -> np.ndarray:
    """Inverse of the (F + 3) system."""
    count = len(C)
    distance = np.linalg.norm(C[:, None] - C[None], axis=2)
    np.fill_diagonal(distance, 1)
    kernel = distance**2 * np.log(distance)
    system = np.concatenate(
        [
            np.concatenate([np.ones((count, 1)), C, kernel], 1),
            np.concatenate([np.zeros((2, 3)), C.T], 1),
            np.concatenate([np.zeros((1, 3)), np.ones((1, count))], 1),
        ]
    )
    return np.linalg.inv(system)


def pixels(height: int, width: int) -> np.ndarray:
    """Centres of the pixels (H * W, 2) in -1..1."""
    x = (np.arange(-width, width, 2) + 1.0) / width
    y = (np.arange(-height, height, 2) + 1.0) / height
    return np.stack(np.meshgrid(x, y), axis=2).reshape(-1, 2)


def features(P: np.ndarray, C: np.ndarray) -> np.ndarray:
    """[1, P, r^2 log r] (n, F + 3)."""
    distance = np.linalg.norm(P[:, None] - C[None], axis=2)
    return np.concatenate([np.ones((len(P), 1)), P, distance**2 * np.log(distance + EPS)], 1)


def rectified(images: Tensor, grid: Tensor) -> Tensor:
    """Images (B, C, H, W) sampled at a grid, the border repeated beyond them."""
    return F.grid_sample(images, grid, padding_mode="border", align_corners=True)
