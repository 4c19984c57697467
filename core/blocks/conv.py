"""Moved to `core.parts.conv`; this path works until 0.3."""

from core.parts.conv import CausalConv

__all__ = ["CausalConv"]
