"""Training: a small market is learned, runs resume to the same bits, the filter starts from a network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.config import replace as changed
from core.errors import ConfigError, WeightsError
from core.state import from_bytes, to_bytes
from core.training import ShuffledBatches
from core.weights import bundle, load
from recsys.config import FilterRun, PairRun, PaperRun, SlateConfig
from recsys.evaluation import evaluate
from recsys.features import steps_of
from recsys.model import load_model
from recsys.train import train
from recsys.train_pair import joined, link
from recsys.trained import gathered
from recsys.training import Rising
from tests.recsys.market import WORLD, log

SMALL = changed(
    SlateConfig(),
    {"model": {"hidden": 16, "dims": 4, "width": 16}, "loop": {"epochs": 2}, "batch": 20, "validation": 10},
)


def same(a: Path, b: Path) -> bool:
    one, two = load(a / "model.safetensors")[0], load(b / "model.safetensors")[0]
    return all(torch.equal(one[name], two[name]) for name in one)


def test_a_trained_model_beats_the_counts_on_other_users(tmp_path: Path) -> None:
    from recsys.simulator import simulate_log

    learned = simulate_log(WORLD, 700, 12, seed=1).slates
    config = changed(SMALL, {"loop": {"epochs": 16}, "batch": 50, "validation": 50})
    outcome = train(learned, tmp_path / "run", config, quiet=True)
    report = evaluate(load_model(str(tmp_path / "run")), [simulate_log(WORLD, 300, 12, seed=2).slates])
    beside = report["baselines"]
    assert report["model"]["loglik"] > beside["item_ctr_slot"]["loglik"] + 0.02
    assert report["model"]["hits@20"] > 1.2 * beside["popularity"]["hits@20"]
    assert outcome.card.extra["kind"] == "interest"


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    slates = log().slates
    train(slates, tmp_path / "whole", SMALL, quiet=True)
    half = changed(SMALL, {"loop": {"max_steps": 3}})
    train(slates, tmp_path / "cut", half, quiet=True)
    with pytest.raises(ConfigError):
        train(slates, tmp_path / "cut", SMALL, quiet=True)
    again = replace(SMALL, loop=replace(SMALL.loop, max_minutes=1e-9))
    train(slates, tmp_path / "late", again, quiet=True)
    train(slates, tmp_path / "late", SMALL, resume=True, quiet=True)
    assert same(tmp_path / "whole", tmp_path / "late")


def test_the_weight_of_the_divergence_may_rise_and_a_resumed_run_knows_where_it_was(tmp_path: Path) -> None:
    rising = changed(SMALL, {"kl": 50.0, "kl_rise": 0.9})
    for name, config in (("constant", changed(SMALL, {"kl": 50.0})), ("whole", rising)):
        train(log().slates, tmp_path / name, config, quiet=True)
    assert not same(tmp_path / "constant", tmp_path / "whole")
    again = replace(rising, loop=replace(rising.loop, max_minutes=1e-9))
    train(log().slates, tmp_path / "late", again, quiet=True)
    train(log().slates, tmp_path / "late", again, resume=True, quiet=True)
    train(log().slates, tmp_path / "late", rising, resume=True, quiet=True)
    assert same(tmp_path / "whole", tmp_path / "late")


def test_batches_carry_the_weight_of_their_step() -> None:
    def make(rows: torch.Tensor, _: torch.Generator) -> int:
        return len(rows)

    batches = Rising(ShuffledBatches(12, 3, make, 0), 5.0)
    assert [weight for weight, _ in batches.epoch(0, 0, 1, 1)] == [0.2, 0.4, 0.6]
    assert [weight for weight, _ in batches.epoch(1, 0, 1, 0)] == [0.8, 1.0, 1.0, 1.0]


def test_the_filter_starts_from_the_items_of_a_network(tmp_path: Path) -> None:
    slates = log().slates
    train(slates, tmp_path / "network", SMALL, quiet=True)
    small = changed(
        FilterRun(),
        {
            "model": {"dims": 4, "particles": 6, "judges": 8},
            "loop": {"max_steps": 2},
            "batch": 20,
            "validation": 5,
        },
    )
    with pytest.raises(ConfigError, match="starts from the items"):
        train(slates, tmp_path / "filter", small, quiet=True)
    train(slates, tmp_path / "filter", small, start=tmp_path / "network", quiet=True)
    found = load_model(str(tmp_path / "filter"))
    assert np.isfinite(evaluate(found, [slates])["model"]["loglik"])
    wide = changed(small, {"model": {"dims": 5}})
    with pytest.raises(ConfigError, match="dims"):
        train(slates, tmp_path / "wide", wide, start=tmp_path / "network", quiet=True)


def test_a_pair_is_a_network_and_a_filter_in_one_file(tmp_path: Path) -> None:
    particles = {"model": {"dims": 4, "particles": 6, "judges": 8}, "loop": {"max_steps": 2}, "batch": 20}
    config = PairRun(SMALL, changed(FilterRun(), {**particles, "validation": 5}))
    outcome = train(log().slates, tmp_path / "run", config, quiet=True)
    found = load_model(str(tmp_path / "run"))
    assert found.card.extra["kind"] == "pair"
    assert outcome.score == found.card.score["loss"]
    one, two = (load_model(str(tmp_path / "run" / name)) for name in ("1-network", "2-filter"))
    steps = steps_of(log().slates.rows(slice(0, 6)))
    both = (one.judge(steps).exp() + two.judge(steps).exp()) / 2
    torch.testing.assert_close(found.judge(steps).exp(), both)
    alone = changed(found.network.config, {"trust": 1.0, "lean": 0.0})
    found.network.config, kept = alone, found.network.config
    torch.testing.assert_close(found.network.rank(steps), one.network.rank(steps), atol=1e-4, rtol=1e-4)
    found.network.config = kept
    state = found.state([40, 90])
    again = from_bytes(to_bytes(state), state)
    assert found.recommend([], 5, state=again).items == found.recommend([], 5, state=state).items
    assert found.recommend([], 5, "ts", state=state, temperature=3.0).items != found.recommend([40], 5).items
    assert len(found.recommend([40, 90], 5, "inslate").items) == 5
    # stopped in both stages, and gone on with
    short = replace(config, network=replace(SMALL, loop=replace(SMALL.loop, max_minutes=1e-9)))
    assert train(log().slates, tmp_path / "late", short, quiet=True).stopped == "time"
    assert load(tmp_path / "late" / "model.safetensors")[1].extra["kind"] == "interest"
    train(log().slates, tmp_path / "late", config, resume=True, quiet=True)
    assert same(tmp_path / "run", tmp_path / "late")
    with pytest.raises(ConfigError, match="a network and a filter, got filter and interest"):
        joined(tmp_path / "run" / "2-filter", tmp_path / "run" / "1-network", tmp_path / "x.safetensors")
    # bundled beside its parts it holds none of their numbers
    folder = tmp_path / "weights"
    for name in ("1-network", "2-filter"):
        bundle(tmp_path / "run" / name, folder, name, half=False)
    target = link(tmp_path / "run", folder, network="1-network.safetensors", filter="2-filter.safetensors")
    assert target.stat().st_size < 4000
    torch.testing.assert_close(load_model(str(target)).judge(steps), found.judge(steps), rtol=0, atol=0)
    with pytest.raises(WeightsError, match="its parts are not"):
        link(tmp_path / "run", folder, network="2-filter.safetensors", filter="1-network.safetensors")
    for parts in ("all", {"network": "../1-network.safetensors"}, {"network": "1-network.safetensors"}):
        with pytest.raises(WeightsError, match="no file beside it that holds its"):
            gathered(target, parts)


def test_the_paper_s_gru_is_trained_in_stages_with_frozen_items(tmp_path: Path) -> None:
    config = changed(
        PaperRun(),
        {
            "model": {"user": "gru", "dims": 4},
            "loop": {"epochs": 2},
            "state_epochs": 1,
            "batch": 25,
            "validation": 10,
        },
    )
    train(log().slates, tmp_path / "run", config, quiet=True)
    items, first = load(tmp_path / "run" / "1-items" / "model.safetensors")
    assert first.unit == "linear"
    state, card = load(tmp_path / "run" / "model.safetensors")
    name = "posterior.mean.itemvec"
    assert torch.equal(items[name], state[name])
    assert card.unit == "gru"
    assert load_model(str(tmp_path / "run")).judge is not None
    # stopped after every step, in both stages and between them
    short, steps = replace(config, loop=replace(config.loop, max_minutes=1e-9)), 0
    outcome = train(log().slates, tmp_path / "late", short, quiet=True)
    while outcome.stopped == "time":
        card = load(tmp_path / "late" / "model.safetensors")[1]
        assert card.extra["unfinished"].startswith("stopped by the clock in stage")
        outcome, steps = train(log().slates, tmp_path / "late", short, resume=True, quiet=True), steps + 1
    assert steps >= 4
    assert same(tmp_path / "run", tmp_path / "late")


def test_too_few_users_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lower batch"):
        train(log().slates, tmp_path / "run", SlateConfig(), quiet=True)
