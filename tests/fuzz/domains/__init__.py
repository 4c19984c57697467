"""Readers of every domain. A later pipeline adds a module with `READERS`, and its name here."""

from importlib import import_module

from tests.fuzz.reader import Reader

DOMAINS = ("core", "trajectory", "speech", "ocr", "pointcloud", "recsys")


def readers() -> list[Reader]:
    """All of them, in order."""
    return [reader for name in DOMAINS for reader in import_module(f"tests.fuzz.domains.{name}").READERS]
