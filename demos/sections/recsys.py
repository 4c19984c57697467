"""Recommendation in the report: the bundled weights on users nobody has seen, and policies that explore."""

from typing import Any

from demos.markup import Stat
from demos.plots import drawing, svg
from demos.report import Section
from demos.theme import BASELINE, OURS, PALETTE, TRUTH

USERS = 1500
SEEDS = 4
NAMES = {
    "no_click": "rate of no click",
    "slot": "slot by kind and length",
    "item_ctr_slot": "click rate x slot",
    "last_group": "group of the last click",
}


def section(seed: int) -> Section:
    """Score the bundled weights on generated users and let three policies play."""
    from recsys.compare import compare
    from recsys.evaluation import evaluate
    from recsys.model import load_model
    from recsys.simulator import World, simulate_log
    from recsys.visit import STRANGERS, WEIGHTS

    log = simulate_log(World(), USERS, seed=STRANGERS + 1 + seed)
    report = evaluate(load_model(WEIGHTS), [log.slates])
    ours, beside = report["model"], report["baselines"]
    games = compare(("dense",), ("inslate",), (0.3, 1.0), SEEDS, positions=("known",), seed=seed)
    town = next(iter(games["worlds"].values()))
    played = town["policies"]
    best, greedy = played["inslate 0.3"], played["greedy"]
    return Section(
        title="Recommendation",
        question="What would they like?",
        what=f"{report['n']} generated users in a market of {len(log.slates.catalogue) - 3} items, of whom "
        "the weights know nothing: log likelihood of their clicks from step 5 on, and how many of 20 items "
        "recommended then they click later.",
        stats=(
            Stat(f"{ours['hits@20']:.2f}", "of 20 items clicked later", ours=True),
            Stat(f"{beside['last_group']['hits@20']:.2f}", "group of the last click"),
            Stat(f"{beside['popularity']['hits@20']:.2f}", "most clicked items"),
            Stat(f"{best['regret']:.1f}", "regret of in-slate Thompson x .3", ours=True),
            Stat(f"{greedy['regret']:.1f}", "regret of greedy"),
        ),
        head=("method", "log likelihood", "hits@20", "hit rate"),
        rows=[row("model", ours), *(row(name, beside[name]) for name in beside)],
        ours="model",
        compare=NAMES["last_group"],
        pictures=[
            (
                regret_curves(played),
                f"Cumulative regret over {games['rounds']} rounds, {SEEDS} paired seeds: a third of the "
                "posterior's spread explores enough.",
            )
        ],
        command="recurra recsys recommend --history clicks.json --policy inslate --explain",
        links=(("Recommendation in the README", "README.md#recommendation"),
               ("Card of the weights", "recsys/weights/README.md")),
    )  # fmt: skip


def row(name: str, figures: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    cells = [figures.get(key) for key in ("loglik", "hits@20", "hitrate@20")]
    return (label(name), *("-" if cell is None else f"{cell:.3f}" for cell in cells))


def label(name: str) -> str:
    """A method in words."""
    return NAMES.get(name, name.replace("_", " "))


def regret_curves(played: dict[str, Any], width: float = 10.0, height: float = 4.2) -> str:
    """Curves of cumulative regret with their names at the end, as SVG."""
    colours = {"greedy": TRUTH, "inslate 0.3": OURS, "inslate 1": PALETTE[1]}
    with drawing(width, height) as (figure, axes):
        for name, one in played.items():
            colour = colours.get(name, BASELINE)
            rounds = range(1, len(one["curve"]) + 1)
            axes.plot(rounds, one["curve"], color=colour, linewidth=3.2 if name == "inslate 0.3" else 1.6)
            axes.annotate(
                name.replace("inslate", "in-slate"),
                (len(one["curve"]), one["curve"][-1]),
                xytext=(5, 0),
                textcoords="offset points",
                color=colour,
                va="center",
            )
        axes.set_xlim(0, len(one["curve"]) * 1.12)
        axes.set_xlabel("round")
        axes.set_ylabel("regret (clicks per user)")
        axes.set_title("Exploring with a third of the spread loses least")
        return svg(figure, "Cumulative regret of greedy and in-slate Thompson sampling over the rounds")
