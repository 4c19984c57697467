"""What every command offers, and that options may come from a file or by --set."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.errors import ConfigError, DataError
from recsys.cli import app

FOR_ALL = {"--json", "--config", "--set"}
OFFERS = {  # beside those: what has a meaning there
    "prepare": set(),
    "train": {"--seed", "--threads", "--device", "--start", "--resume"},
    "recommend": {"--weights", "--seed", "--threads"},
    "similar": {"--weights", "--threads"},
    "evaluate": {"--weights", "--seed", "--threads", "--device"},
    "protocol": {"--seed", "--threads", "--device"},
    "contest": {"--seed", "--threads", "--device"},
    "simulate": {"--seed"},
    "simulate compare": {"--seed", "--threads"},
    "ope": {"--seed", "--threads"},
    "refresh": {"--weights", "--seed", "--threads"},
    "drift": {"--weights", "--threads"},
    "replay": {"--weights", "--threads"},
    "serve": {"--weights", "--seed", "--threads", "--ann"},
    "export": {"--weights", "--threads"},
    "publish": set(),
}


@pytest.mark.parametrize("verb", OFFERS)
def test_a_verb_has_its_options_and_ends_with_an_example(verb: str) -> None:
    said = CliRunner().invoke(app, [*verb.split(), "--help"], env={"COLUMNS": "200"}).stdout
    assert FOR_ALL | OFFERS[verb] <= set(re.findall(r"--[a-z-]+", said))
    assert f"Example: recurra recsys {verb} " in " ".join(said.split())


def test_every_verb_is_in_the_table() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert names | {"simulate", "simulate compare"} == set(OFFERS)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    (tmp_path / "options.toml").write_text('k = 4\npolicy = "ts"\nweights = "recsys-simulated"\n')
    (tmp_path / "h.json").write_text("[40, 90]")
    return tmp_path / "h.json"


def shown(history: Path, *words: str) -> tuple[str, int]:
    """Policy and length of the slate that is recommended."""
    asked = ["recommend", "--history", str(history), "--json", "-", *words]
    outcome = CliRunner().invoke(app, asked, catch_exceptions=False)
    (slate,) = json.loads(outcome.stdout)["slates"]
    return slate["policy"], len(slate["items"])


def test_options_come_from_a_file_from_words_and_from_the_command_line(history: Path) -> None:
    file = ("--config", str(history.with_name("options.toml")))
    assert shown(history, *file) == ("ts", 4)
    assert shown(history, "--set", "k=3", *file) == ("ts", 3)
    assert shown(history, *file, "--set", "k=3", "--k", "2", "--policy", "greedy") == ("greedy", 2)
    history.with_name("options.toml").write_text('polcy = "ts"')
    with pytest.raises(ConfigError, match=r"options.toml: no option 'polcy'.*Did you mean policy"):
        shown(history, *file)
    assert CliRunner().invoke(app, ["recommend", "--set", "k=0"]).exit_code == 2


def test_public_names_are_functions_whatever_was_imported_before(tmp_path: Path) -> None:
    import recsys
    import recsys.evaluation
    import recsys.ope_actions
    import recsys.simulator

    recsys.simulator.write_log(recsys.simulate(20), tmp_path / "market")
    model = recsys.SlateModel.load("recsys-simulated")
    assert recsys.evaluate(model, [recsys.read_slates(tmp_path / "market")])["n"] == 20
    state = model.update(model.state([40]), 90)
    assert recsys.recommend(model, [], 3, state=state).items == recsys.recommend(model, [40, 90], 3).items
    assert model.log_prob([{"slate": [40, 41], "click": 41}])[0] < 0
    (tmp_path / "log.csv").write_text("item,slot,click,propensity\n5,1,1,0.5\n6,1,0,0.5\n5,1,0,0\n")
    with pytest.raises(DataError, match=r"log.csv: row 2: propensity 0"):
        recsys.ope(tmp_path / "log.csv")
