"""What a person gets who installs the wheel: every package, its data, and commands that work from it."""

import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
DATA = ("*.safetensors", "index.json", "weights/README.md", "*.css", "*.js", "py.typed")
PACKAGES = ("core", "apps", "recsys", "speech", "vision", "demos")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build as b; print(b.build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def recurra(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `recurra` of an environment that holds the wheel; only what it depends on is borrowed."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    words = ["--disable-pip-version-check", "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", *words, str(wheel)], check=True, capture_output=True, timeout=300
    )
    (site,) = folder.glob("lib/python*/site-packages")
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (site / "borrowed.pth").write_text(
        "\n".join(borrowed) + "\n"
    )  # links of editable installs are not followed
    return folder / "bin" / "recurra"


def run(recurra: Path, folder: Path, *words: str, stdin: str = "") -> str:
    """Stdout of the command, run in a folder outside of the checkout."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(recurra), *words],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr[-2000:]}"
    return done.stdout


def readme_commands() -> list[tuple[str, ...]]:
    """The words of every command of README, up to its first file or option."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = {}
    for line in re.findall(r"(?:^|[|`] ?)recurra ([^`#|\n]*)", text, re.MULTILINE):
        words = []
        for word in line.split():
            if not re.fullmatch(r"[a-z]+", word) or len(words) == 3:
                break
            words.append(word)
        found[tuple(words)] = None
    return [words for words in found if words]


@pytest.mark.slow
def test_the_wheel_holds_every_package_and_its_data_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in PACKAGES:
        here = [file for pattern in ("*.py", *DATA) for file in (ROOT / package).rglob(pattern)]
        missing = [name for file in here if (name := file.relative_to(ROOT).as_posix()) not in names]
        assert here
        assert not missing
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert wheel.stat().st_size < 40 << 20


@pytest.mark.slow
def test_it_comes_from_the_wheel_and_is_ready(recurra: Path, tmp_path: Path) -> None:
    python = recurra.with_name("python")
    code = "import core; print(core.__file__)"
    place = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert str(recurra.parents[1]) in place.stdout, place.stderr
    models = json.loads(run(recurra, tmp_path, "models", "--json", "-"))["models"]
    assert {"trajectory-gru", "speech-enhance", "pointcloud-tiny", "ocr-lines", "recsys-gru"} <= {
        row["name"] for row in models
    }
    signed = json.loads(run(recurra, tmp_path, "doctor", "--json", "-"))["signed_in"]
    assert {row["name"] for row in signed} >= {"trajectory", "demo", "quickstart"}
    assert not [row for row in signed if row["error"]]


@pytest.mark.slow
def test_every_command_of_readme_is_there(recurra: Path, tmp_path: Path) -> None:
    commands = readme_commands()
    assert len(commands) > 30
    code = (
        "import io, sys, contextlib, core.cli\n"
        "for words in sys.argv[1:]:\n"
        "    sys.argv = ['recurra', *words.split(), '--help']\n"
        "    told = io.StringIO()\n"
        "    try:\n"
        "        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):\n"
        "            core.cli.main()\n"
        "    except SystemExit as ended:\n"
        "        if ended.code:\n"
        "            print(words, told.getvalue()[-300:])\n"
    )
    done = subprocess.run(
        [recurra.with_name("python"), "-c", code, *(" ".join(words) for words in commands)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    wrong = [line for line in done.stdout.splitlines() if line and "Usage" not in line]
    assert not wrong, "\n".join(wrong)


UNIT = """
from core import Unit

class Leaky(Unit):
    paper = "nobody 2026"

    def initial_state(self, x):
        return x.new_zeros(x.shape[0], self.hidden_size)

    def step(self, x, state):
        h = 0.5 * state + x.mean(1, keepdim=True)
        return h, h
"""


@pytest.mark.slow
def test_the_battery_comes_with_it(recurra: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(UNIT)
    words = ["-m", "core", "units", "--check", "mine:Leaky"]
    done = subprocess.run(
        [recurra.with_name("python"), *words], cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "all modes agree" in done.stdout


@pytest.mark.slow
def test_trajectory_works_from_it(recurra: Path, tmp_path: Path) -> None:
    run(recurra, tmp_path, "trajectory", "simulate", "-o", "flights.csv", "--flights", "3")
    run(recurra, tmp_path, "trajectory", "predict", "flights.csv", "--horizon", "2", "-o", "prediction.json")
    assert (tmp_path / "prediction.json").stat().st_size > 100
    run(recurra, tmp_path, "trajectory", "evaluate", "flights.csv", "--json", "report.json")
    lines = "".join(json.dumps({"t": i / 10, "p": [i * 0.5, 0, 5]}) + "\n" for i in range(40))
    assert run(recurra, tmp_path, "trajectory", "stream", "--horizon", "1", stdin=lines).count("\n") > 10


@pytest.mark.slow
def test_pointcloud_works_from_it(recurra: Path, tmp_path: Path) -> None:
    run(recurra, tmp_path, "pointcloud", "simulate", "-o", "scans", "--scans", "1", "--sensor", "vlp16")
    scan = next(path for path in (tmp_path / "scans").rglob("*") if path.suffix in (".bin", ".npz", ".pcd"))
    run(recurra, tmp_path, "pointcloud", "info", str(scan))
    run(recurra, tmp_path, "pointcloud", "detect", str(scan), "-o", "boxes.json")


@pytest.mark.slow
def test_ocr_works_from_it(recurra: Path, tmp_path: Path) -> None:
    run(recurra, tmp_path, "ocr", "simulate", "lines", "-o", "made", "--count", "2")
    image = sorted((tmp_path / "made" / "images").glob("*.png"))[0]
    assert run(recurra, tmp_path, "ocr", "read", str(image)).strip()
    run(recurra, tmp_path, "ocr", "evaluate", "lines", "made/index.csv")


@pytest.mark.slow
def test_speech_works_from_it(recurra: Path, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    noise = np.random.default_rng(0).normal(0, 0.05, 32_000).astype(np.float32)
    soundfile.write(tmp_path / "talk.wav", noise, 16_000)
    run(recurra, tmp_path, "speech", "enhance", "talk.wav", "-o", "clean.wav")
    assert soundfile.info(tmp_path / "clean.wav").frames == 32_000
    run(recurra, tmp_path, "speech", "separate", "talk.wav", "-o", "tracks")


@pytest.mark.slow
def test_recsys_works_from_it(recurra: Path, tmp_path: Path) -> None:
    (tmp_path / "clicks.json").write_text("[1318, 1319]")
    run(recurra, tmp_path, "recsys", "recommend", "--history", "clicks.json", "--k", "5", "--explain")
    run(recurra, tmp_path, "recsys", "similar", "1318")
    run(recurra, tmp_path, "recsys", "simulate", "-o", "market", "--users", "40")
