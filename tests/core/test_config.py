"""Settings from defaults, a TOML file and --set words."""

from dataclasses import dataclass, field
from math import inf, nan
from pathlib import Path
from typing import Any, Literal

import pytest

from core.config import convert, parse_set, read_toml, replace, resolve, to_dict, to_toml
from core.errors import ConfigError


@dataclass(frozen=True)
class Model:
    unit: Literal["gru", "lstm"] = "gru"
    hidden: int = 8
    rates: tuple[float, ...] = (0.1, 0.2)


@dataclass(frozen=True)
class Train:
    lr: float = 1e-3
    clip: float | None = None
    out: Path = Path("runs")
    resume: bool = False
    warm: float | None = 0.5
    model: Model = field(default_factory=Model)

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ConfigError(f"lr must be positive, got {self.lr}")


def test_words_become_nested_values() -> None:
    assert parse_set(["lr=1e-2", "model.unit=lstm", 'out="a b"', "model.rates=[1, 2]"]) == {
        "lr": 0.01,
        "model": {"unit": "lstm", "rates": [1, 2]},
        "out": "a b",
    }


def test_words_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("lr = 0.5\n[model]\nhidden = 32\n")
    config = resolve(Train(), file, ["model.hidden=64", "clip=1", "out=x/y"])
    assert config == Train(lr=0.5, clip=1.0, out=Path("x/y"), model=Model(hidden=64))


def test_none_unsets_an_optional_value() -> None:
    assert resolve(Train(clip=2.0), None, ["clip=none"]).clip is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lrr=1"], r"no setting 'lrr'; this section has clip, lr, model, .*warm\. Did you mean lr\?"),
        (["model.hiden=1"], r"Did you mean model\.hidden\?"),
        (["model.unit=rnn"], r"model\.unit must be one of \('gru', 'lstm'\), got 'rnn'"),
        (["lr=true"], "lr must be a number, got True"),
        (["model.hidden=1.5"], "model.hidden must be a whole number"),
        (["resume=1"], "resume must be true or false"),
        (["model=3"], "model is a section; set one of model.unit"),
        (["lr"], "--set wants name=value"),
        (["lr=0"], "lr must be positive"),
        (["model.hidden=1", "model=2"], "is a section"),
        (["a=1", "a.b=2"], "already given a value"),
    ],
)
def test_a_wrong_word_is_answered(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(Train(), None, words)


def test_settings_survive_toml(tmp_path: Path) -> None:
    config = Train(lr=0.25, clip=None, warm=None, out=Path('we"ird\\näme'), model=Model("lstm", 3, (1.0,)))
    file = tmp_path / "config.toml"
    file.write_text(to_toml(to_dict(config)), encoding="utf-8")
    assert replace(Train(), read_toml(file)) == config


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path / "none.toml")
    file = tmp_path / "bad.toml"
    file.write_bytes(b"\xff\xfe lr = ")
    with pytest.raises(ConfigError, match="not a TOML file"):
        read_toml(file)


@pytest.mark.parametrize(
    "options", [{"eps": nan}, {"betas": [0.9, inf]}, {"groups": [{"lr": -inf}]}, {"eps": 10**400}]
)
def test_numbers_that_only_their_reader_judges_are_finite(options: dict) -> None:
    with pytest.raises(ConfigError, match=r"options.* must be a finite number"):
        convert(options, Any, "loop.optimizer.options")
