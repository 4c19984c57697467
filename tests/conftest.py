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
    "tests/apps/trajectory/test_cli.py::test_train_evaluate_and_resume",
    "tests/apps/trajectory/test_cli.py::test_stream_answers_line_by_line",
    "tests/speech/test_train.py::test_a_run_leaves_weights_a_card_and_a_log",
    "tests/speech/test_stream.py::test_blocks_of_any_size_equal_the_whole",
    "tests/speech/test_separation.py::test_memory_is_flat",
    "tests/vision/pointcloud/test_detect.py::test_cars_of_an_unseen_scan_are_found",
    "tests/recsys/test_train.py::test_a_trained_model_beats_the_counts_on_other_users",
    "tests/core/ctc/test_beams.py::test_compiled_search_is_the_plain_one",
)
"""What starts processes, exports, interprets kernels or trains; single tests elsewhere carry the mark."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(HEAVY):
            item.add_marker("heavy")
