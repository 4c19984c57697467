"""Moved to `core.units.window.attention`; this path works until 0.3."""

from core.units.window.attention import LocalAttention

__all__ = ["LocalAttention"]
