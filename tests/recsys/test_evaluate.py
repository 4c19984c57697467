"""Figures: the protocol, the baselines as they are defined, other catalogues, logs without a group table."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import ConfigError, DataError
from recsys.baselines import count, last_group, popular, slot_log_probs
from recsys.data import folds
from recsys.evaluation import evaluate, lines
from recsys.features import steps_of
from recsys.metrics import calibration, hits, scored, taken, truth_after
from recsys.ope_actions import estimate, read_log
from recsys.protocol import lines as lines_of
from recsys.protocol import protocol
from recsys.slates import Catalogue
from tests.recsys.market import log, model


def test_the_report_has_the_house_s_shape_and_can_be_recomputed() -> None:
    report = evaluate(model(), [log(40, 9).slates], beside=model("linear"))
    assert report["n"] == 40 == len(report["items"])
    assert {"uniform", "item_ctr_slot", "popularity", "last_group", "random", "linear"} <= set(
        report["baselines"]
    )
    total = sum(row["loglik"] * row["steps"] for row in report["items"] if row["steps"])
    assert report["model"]["loglik"] == pytest.approx(total / report["steps"])
    mean = np.mean([row["hits@20"] for row in report["items"]])
    assert report["model"]["hits@20"] == pytest.approx(mean)
    assert report["model"]["loglik_low"] <= report["model"]["loglik"] <= report["model"]["loglik_high"]
    assert "last_group" in "\n".join(lines(report))


def test_figures_do_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(model(), [log(40, 9).slates])
    monkeypatch.setattr("recsys.evaluation.PIECE", 7)
    pieces = evaluate(model(), [log(40, 9).slates])
    assert pieces["model"]["loglik"] == pytest.approx(whole["model"]["loglik"], abs=1e-6)
    assert pieces["model"]["hits@20"] == whole["model"]["hits@20"]


def test_uniform_is_minus_the_log_of_the_length() -> None:
    slates = log(40, 9).slates
    report = evaluate(model(), [slates])
    steps = steps_of(slates)
    wanted = -steps.lengths[scored(steps)].float().log().mean()
    assert report["baselines"]["uniform"]["loglik"] == pytest.approx(float(wanted), abs=1e-5)


def test_item_ctr_slot_expects_as_many_empty_slates_as_were_counted() -> None:
    slates = log(200, 2).slates
    counts, steps = count(slates), steps_of(slates)
    chance = slot_log_probs("item_ctr_slot", counts, steps).exp()
    for kind in (1, 2):
        kept = steps.counted & (steps.kind == kind)
        expected, seen = chance[..., 0][kept].sum(), (steps.click_idx == 0)[kept].sum()
        assert float(expected) == pytest.approx(float(seen), rel=0.02)
    late = scored(steps)
    ours = taken(slot_log_probs("item_ctr_slot", counts, steps), steps)[late].mean()
    assert ours > taken(slot_log_probs("uniform", counts, steps), steps)[late].mean()


def test_last_group_is_the_most_clicked_of_the_group_of_the_last_click() -> None:
    slates = log().slates
    counts, group = count(slates), torch.from_numpy(slates.catalogue.group)
    steps = steps_of(slates).first(5)
    for items, click in zip(last_group(counts, group, steps, 4), steps.click * steps.used, strict=True):
        seen = click[click >= 3]
        if not len(seen):
            assert items == popular(counts, 4).tolist()
            continue
        members = [i for i in range(3, len(group)) if group[i] == group[seen[-1]]]
        assert items == sorted(members, key=lambda i: (-float(counts.clicked[i]), i))[:4]


def test_hits_count_distinct_items_clicked_after_step_five() -> None:
    steps = steps_of(log().slates, slice(0, 3))
    truth = truth_after(steps)
    later = [{int(i) for i in row[6:] if i >= 3} for row in steps.click * steps.used]
    assert truth == later
    assert hits([[1], [2], list(later[2])], truth).tolist() == [0, 0, len(later[2])]


def test_a_calibrated_forecast_has_no_error() -> None:
    random = np.random.default_rng(0)
    chance = random.random(100_000)
    right = random.random(100_000) < chance
    assert calibration(chance, right)["ece"] < 0.01
    assert calibration(chance, np.ones(100_000))["ece"] == pytest.approx(0.5, abs=0.01)


def test_a_log_without_groups_takes_those_of_the_weights_and_another_table_is_refused() -> None:
    slates = log(20, 9).slates
    bare = replace(slates, catalogue=Catalogue(np.zeros(len(slates.catalogue), np.int64)))
    assert evaluate(model(), [bare])["model"] == evaluate(model(), [slates])["model"]
    shuffled = Catalogue(np.roll(slates.catalogue.group, 7))
    with pytest.raises(DataError, match="another catalogue"):
        evaluate(model(), [replace(slates, catalogue=shuffled)])
    beyond = replace(bare, slate=np.where(slates.slate > 2, slates.slate + 500, slates.slate))
    with pytest.raises(DataError, match="beyond the"):
        evaluate(model(), [beyond])


def test_an_estimate_from_a_log_says_when_not_to_trust_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    import pandas as pd

    random = np.random.default_rng(0)
    chance = np.array([0.7, 0.2, 0.1])
    item = random.choice(3, 6000, p=chance)
    click = (random.random(6000) < np.array([0.1, 0.3, 0.5])[item]).astype(int)
    frame = pd.DataFrame({"item": item, "click": click, "propensity": chance[item], "user": item % 50})
    frame["user"] = random.integers(0, 400, 6000)
    path = tmp_path_factory.mktemp("ope") / "log.csv"
    frame.to_csv(path, index=False)
    answer = estimate(read_log(path), "random")
    assert answer["trust"]
    for name in ("ips", "snips", "dr", "sndr"):
        row = answer["estimates"][name]
        assert row["value_low"] < 0.3 < row["value_high"]
    frame.loc[:3000, "propensity"] = np.nan
    frame.to_csv(path, index=False)
    doubtful = estimate(read_log(path), "random")
    assert doubtful["unknown_share"] > 0.5
    assert doubtful["verdict"] == "do not trust"
    frame["propensity"] = 0.0
    frame.to_csv(path, index=False)
    with pytest.raises(DataError, match="propensity 0"):
        estimate(read_log(path), "random")


def test_offers_tell_only_where_they_were_no_accident() -> None:
    from recsys.baselines import telling

    random = torch.Generator().manual_seed(0)
    group = torch.cat([torch.arange(3), torch.randint(3, 9, (600,), generator=random)])
    mean = torch.full((603,), 20.0)
    assert telling(torch.poisson(mean, generator=random), group) < 0.15
    known = mean * torch.exp(0.6 * torch.randn(603, generator=random))
    assert telling(torch.poisson(known, generator=random), group) > 0.6
    assert telling(torch.zeros(603), group) == 0


def test_a_protocol_scores_every_user_by_weights_that_never_saw_them(tmp_path: Path) -> None:
    slates = log(415, 3).slates
    asked = ("network", "filter", "pair")
    answer = protocol(slates, tmp_path, asked, parts=[1], quick=0.01)
    assert (answer["n"], answer["folds"], list(answer["models"])) == (83, [1], list(asked))
    reports = [json.loads((tmp_path / f"{name}-1.json").read_text()) for name in asked]
    users = sorted(row["user"] for row in reports[2]["items"])
    assert users == sorted(np.asarray(slates.users)[folds(415)[1]].tolist())
    alone = [np.array([row["loglik"] or 0.0 for row in report["items"]]) for report in reports]
    assert alone[2].mean() >= (alone[0].mean() + alone[1].mean()) / 2  # a mean is likelier than its parts
    gap = answer["models"]["pair"]["loglik"] - answer["models"]["network"]["loglik"]
    assert answer["models"]["pair"]["loglik_gap"] == pytest.approx(gap, abs=1e-9)
    assert any(line.startswith("pair") for line in lines_of(answer))
    assert protocol(slates, tmp_path, asked, parts=[1], quick=0.01) == answer
    with pytest.raises(ConfigError, match="no model 'nothing'"):
        protocol(slates, tmp_path, ("nothing",), parts=[1])
