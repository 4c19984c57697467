"""The example of the description runs as it stands there."""

from pathlib import Path

import pytest

README = Path(__file__).parents[3] / "core" / "training" / "README.md"


def test_the_example_runs_and_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = README.read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {"__name__": "example"})
    score, weights = capsys.readouterr().out.split()
    assert float(score) < 3.0
    assert Path(weights).is_file()
