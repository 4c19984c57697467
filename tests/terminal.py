"""Commands in the test's own process: an interpreter a command would cost a second of CPU each."""

import io
import sys
from collections.abc import Callable

import pytest

from core.cli import main


class Terminal:
    """Runs `recurra` and keeps what it printed: `code, out, err = recurra("units", "gru")`."""

    def __init__(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        entry: Callable[[], None] = main,
    ) -> None:
        self.capsys, self.monkeypatch, self.entry = capsys, monkeypatch, entry

    def __call__(self, *words: object, stdin: str | None = None) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["recurra", *map(str, words)])
        if stdin is not None:
            self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = 0
        try:
            self.entry()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = self.capsys.readouterr()
        return code, out, err
