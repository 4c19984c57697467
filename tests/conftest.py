"""Seeds, the compile cache, and CPU seconds per area."""

import os
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# compiled loops outlive the run where the environment does, and lie in no source folder
if (Path(__file__).parents[1] / ".venv").is_dir():
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".venv" / "numba"))

import pytest
import torch

from tests.order import (  # noqa: F401  (hooks of pytest)
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_xdist_make_scheduler,
)
from tests.seconds import (  # noqa: F401  (hooks of pytest)
    pytest_collection_finish,
    pytest_runtest_logreport,
    pytest_runtest_logstart,
    pytest_runtest_makereport,
    pytest_sessionfinish,
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
