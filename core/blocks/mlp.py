"""Moved to `core.parts.mlp`; this path works until 0.3."""

from core.parts.mlp import GatedMLP

__all__ = ["GatedMLP"]
