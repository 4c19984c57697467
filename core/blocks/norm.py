"""Moved to `core.parts.norm`; this path works until 0.3."""

from core.parts.norm import GatedRMSNorm, RMSNorm

__all__ = ["GatedRMSNorm", "RMSNorm"]
