"""What commands share: options of readers, JSON, remarks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from core import report
from core.errors import ConfigError, MissingExtraError
from core.terminal import device, emit, need, reader_options, say_all, set_threads
from core.text import shown


@dataclass(frozen=True)
class Options:
    format: str | None = None
    columns: Mapping[str, str] | None = None
    group: tuple[str, ...] | None = None
    rate: float | None = None
    times: Path | None = None
    strict: bool = False


def test_reader_settings_are_read_by_their_kind() -> None:
    words = ["format=1", "columns=t=time,x=px", "group=kind,id", "rate=100", "times=t.txt", "strict=true"]
    assert reader_options(Options(), words) == Options(
        "1", {"t": "time", "x": "px"}, ("kind", "id"), 100.0, Path("t.txt"), True
    )
    assert reader_options(Options(), None) == Options()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("rat=1", "no setting 'rat'.*Did you mean rate"),
        ("rate", "--read wants key=value"),
        ("rate=fast", "--read rate must be a number or none, got 'fast'"),
        ("columns=t", "--read columns wants name=value pairs"),
    ],
)
def test_wrong_reader_settings_are_named(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reader_options(Options(), [word])


def test_json_goes_where_it_should_and_knows_no_nan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    result = {"x": float("nan"), "y": [np.float32(1), float("inf")], "p": Path("a"), "z": np.arange(2)}
    emit(result, "-", ["for people"])
    wanted = {"x": None, "y": [1.0, None], "p": "a", "z": [0, 1]}
    assert json.loads(capsys.readouterr().out) == wanted
    emit(result, tmp_path / "r.json", ["for \x1b[2J people"])
    assert json.loads((tmp_path / "r.json").read_text()) == wanted
    assert capsys.readouterr().out == "for \\x1b[2J people\n"


def test_of_processes_that_work_together_the_first_one_tells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch.distributed as dist

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    for rank in (0, 1):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        emit({"rank": rank}, tmp_path / f"{rank}.json", ["a line"])
        say_all([f"remark of {rank}"])
    assert capsys.readouterr() == ("a line\n", "remark of 0\n")
    assert [path.name for path in tmp_path.iterdir()] == ["0.json"]


def test_many_remarks_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    say_all([f"remark {index}" for index in range(23)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 3 more remarks like these."


def test_control_characters_are_shown_as_codes() -> None:
    assert shown("a\x1b[31mb\u202ec\nd\te\ud800") == "a\\x1b[31mb\\u202ec\nd\te\\ud800"


def test_devices_threads_and_extras_are_checked() -> None:
    assert device(None).type == "cpu"
    for name in ("cuda:99", "tpu", "meta"):
        with pytest.raises(ConfigError, match=f"no device '{name}'"):
            device(name)
    with pytest.raises(ConfigError, match="threads must be"):
        set_threads(1_000_000)
    need("demos", "json")
    with pytest.raises(MissingExtraError, match=r'package nothing_here: pip install "recurra\[demos\]"'):
        need("demos", "json", "nothing_here.part")


def test_numbers_and_tables_for_people() -> None:
    assert [report.number(value) for value in (1234.567, None, float("nan"))] == ["1,234.57", "-", "-"]
    assert report.percent(0.123) == "12.3 %"
    assert [report.seconds(value) for value in (90.0, 300.0, 0.0123, 2e-6)] == [
        "90 s",
        "5.0 min",
        "12.3 ms",
        "2 us",
    ]
    assert report.table(["a", "bb"], [["xyz", "1"], ["漢", "22"]]) == ["  a    bb", "  xyz   1", "  漢   22"]
    text = report.html_table(["a<"], [["<b>"]], strong=[0])
    assert "<script" not in text
    assert '<tr class="r-ours"><th scope="row">&lt;b&gt;</th></tr>' in text
    shape = {"n": 5, "model": {"x": 1.0, "x_low": 0.5, "x_high": 2.0}, "baselines": {"no_model": {"x": None}}}
    head, rows = report.scores(shape, {"x": "error"}, 1)
    assert head == ["n = 5", "error"]
    assert rows == [["model", "1.0 [0.5, 2.0]"], ["no model", "-"]]
