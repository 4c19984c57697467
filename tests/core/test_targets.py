"""What a command writes is looked at before it works: every such option of every pipeline, run folders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer

from core.domains import signed_in
from core.jobs import gather, mirror
from core.terminal import OUTPUTS
from tests.terminal import Terminal

WRITTEN = ("-o", "--out", "--json", "--html", "--png", "--plot")


def commands(group: Any, path: str) -> Iterator[tuple[str, click.Command]]:
    """(words, command) of all that lies below a group."""
    for name, command in getattr(group, "commands", {}).items():
        yield f"{path} {name}", command
        yield from commands(command, f"{path} {name}")


def every_command() -> list[tuple[str, click.Command]]:
    found = []
    for row in signed_in("recurra.domains"):
        domain = row.load()
        module, name = domain.commands.split(":")
        app = getattr(__import__(module, fromlist=[name]), name)
        found += commands(typer.main.get_command(app), domain.name)
    return found


def test_every_option_that_writes_is_looked_at_before_the_work() -> None:
    unchecked = [
        f"{words} {option.opts[-1]}"
        for words, command in every_command()
        for option in command.params
        if set(option.opts) & set(WRITTEN)
        and option.callback is None
        and getattr(option, "help", None) != OUTPUTS.help
    ]
    assert not unchecked


TRAINED = {
    "trajectory": ["trajectory", "train"],
    "speech": ["speech", "train", "enhance"],
    "ocr": ["ocr", "train", "lines"],
    "pointcloud": ["pointcloud", "train"],
    "recsys": ["recsys", "train"],
}


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("fault", ["a run is there", "no run is there", "a file is there"])
def test_a_run_folder_is_refused_before_anything_is_read_or_made(
    tmp_path: Path, recurra: Terminal, name: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import core.training.run

    def never(*words: Any, **options: Any) -> None:
        raise AssertionError("the run was begun")

    monkeypatch.setattr(core.training.run.Run, "__init__", never)
    out, words, message = tmp_path / "run", [], ""
    if fault == "a run is there":
        out.mkdir()
        (out / "config.toml").write_text("")
        message = "already holds a run (config.toml)"
    elif fault == "no run is there":
        words, message = ["--resume"], "no run to resume here"
    else:
        out.write_text("")
        message = "is no folder"
    code, printed, err = recurra(*TRAINED[name], "--out", out, *words)
    assert (code, printed) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("place", ["missing/x.wav", "file/x.wav", "file/"])
def test_mirrored_outputs_are_looked_at_before_the_jobs(tmp_path: Path, place: str) -> None:
    (tmp_path / "a.wav").write_text("")
    (tmp_path / "file").write_text("")
    inputs = gather([tmp_path / "a.wav"], {".wav"})
    if place.startswith("missing"):  # it can be made
        assert mirror(inputs, f"{tmp_path}/{place}")[0].target == tmp_path / place
        return
    with pytest.raises(Exception, match=r"file is no folder|this is a file"):
        mirror(inputs, f"{tmp_path}/{place}")
