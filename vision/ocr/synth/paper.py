"""Ink on paper: texture, uneven light, rules, blur, noise."""

import cv2
import numpy as np


def paper(ink: np.ndarray, rng: np.random.Generator, rules: bool = True) -> np.ndarray:
    """ink (h, w) in 0..1 -> grey (h, w) of uint8, paper bright."""
    h, w = ink.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    ground = np.full((h, w), rng.uniform(190, 245), np.float32)
    if rng.random() < 0.6:
        for _ in range(int(rng.integers(1, 4))):
            period, angle = rng.uniform(3, 9), rng.uniform(0, np.pi)
            phase = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period) + rng.uniform(0, 6.3)
            ground += np.float32(rng.uniform(2, 14)) * np.sin(phase)
    coarse = rng.normal(0, 1, (3, max(3, w // 60 + 2))).astype(np.float32)
    field = cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)
    ground += field * np.float32(rng.uniform(0, 18))
    if rules and rng.random() < 0.25:
        for line in range(int(rng.integers(1, 3))):
            at = int(h * rng.uniform(0.1, 0.95))
            ground[at : at + 1 + line % 2] -= np.float32(rng.uniform(20, 90))
    pen = np.float32(rng.uniform(15, 110))
    soft = cv2.GaussianBlur(ink, (0, 0), max(0.05, rng.uniform(0, 0.8)))
    grey = ground * (1 - soft) + np.minimum(ground, pen) * soft
    grey += rng.normal(0, rng.uniform(0.5, 9), (h, w)).astype(np.float32)
    return grey.clip(0, 255).astype(np.uint8)
