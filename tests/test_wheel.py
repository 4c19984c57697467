"""What a person gets who installs the wheel: every package, its data, and commands that work from it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ("*.safetensors", "index.json", "weights/README.md", "*.css", "*.js", "py.typed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build as b; print(b.build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
def test_the_wheel_holds_every_package_and_its_data(site: Path) -> None:
    for package in ("core", "apps", "recsys", "speech", "vision", "demos"):
        here = [file for pattern in ("*.py", *DATA) for file in (ROOT / package).rglob(pattern)]
        missing = [
            str(file.relative_to(ROOT)) for file in here if not (site / file.relative_to(ROOT)).is_file()
        ]
        assert here
        assert not missing


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["models", "--json", "-"], ["doctor", "--json", "-"]])
def test_commands_work_from_it(site: Path, words: list[str]) -> None:
    code = f"import sys, core, core.cli; assert core.__file__.startswith({str(site)!r}); core.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    if words[0] == "models":
        assert "trajectory-gru" in [row["name"] for row in json.loads(done.stdout)["models"]]
    if words[0] == "doctor":
        signed = json.loads(done.stdout)["signed_in"]
        assert {row["name"] for row in signed} >= {"trajectory", "demo", "quickstart"}
        assert not [row for row in signed if row["error"]]
