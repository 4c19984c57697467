"""What the fuzzer has found once is read again, and so are a few fresh inputs of every reader."""

from pathlib import Path

import pytest

from tests.fuzz.domains import readers
from tests.fuzz.reader import Reader, drawn
from tests.fuzz.shrink import shrunk
from tests.fuzz.worker import tried

FOUND = Path(__file__).parent / "found"
READERS = {reader.name: reader for reader in readers()}
CASES = sorted(path for path in FOUND.rglob("*") if path.is_file())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", CASES, ids=[f"{path.parent.name}-{path.stem}" for path in CASES])
def test_what_was_found_is_refused_or_read(path: Path, tmp_path: Path) -> None:
    reader = READERS[path.parent.name]
    _, wrong = tried(reader, path.read_bytes(), str(tmp_path / f"input{reader.suffix}"))
    assert wrong is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_few_inputs_of_every_reader(reader: Reader, tmp_path: Path) -> None:
    path = str(tmp_path / f"input{reader.suffix}")
    for number in range(8):
        _, wrong = tried(reader, drawn(reader, 1, number), path)
        assert wrong is None, number


def test_an_input_is_shrunk_to_what_fails() -> None:
    data = b"\n".join(b"line %d" % i for i in range(40)) + b"\nbad\x00cell,1"
    assert shrunk(data, lambda smaller: b"\x00" in smaller) == b"\x00"
