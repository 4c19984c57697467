"""Seeds, the compile cache, and CPU seconds per area."""

import os
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# compiled loops outlive the run where the environment does, and lie in no source folder
if (Path(__file__).parents[1] / ".venv").is_dir():
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".venv" / "numba"))

import pytest
import torch

from tests.seconds import (  # noqa: F401  (hooks of pytest)
    pytest_collection_finish,
    pytest_runtest_logreport,
    pytest_runtest_logstart,
    pytest_runtest_makereport,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from tests.terminal import Terminal


@pytest.fixture
def recurra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """The command, in this process."""
    return Terminal(capsys, monkeypatch)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


HEAVY = (
    "tests/stranger",
    "tests/core/kernels/test_triton_twins.py",
    "tests/core/training/test_distributed.py",
    "tests/core/training/test_resume.py",
    "tests/core/training/test_stages.py",
    "tests/apps/trajectory/test_export.py",
)
"""Whole files that start processes, export or interpret kernels; single tests elsewhere carry the mark."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(HEAVY):
            item.add_marker("heavy")
