"""What would they like? Visit a market as one of its people: slates of every policy, beliefs, regret."""

from typing import Any

import gradio as gr
import plotly.graph_objects as go

from demos.answering import answers
from demos.first import once
from demos.headline import Headline
from demos.markup import Stat, stat_row, table
from demos.plots import template
from demos.progress import stands
from demos.theme import BASELINE, OURS, PALETTE
from demos.uploads import said
from recsys.compare import compare, town_of
from recsys.visit import VISITORS, ShelfShown, Visit, arrive, beliefs, click, shelf, strolls

HEADLINE = Headline(
    weights="recsys-pair",
    figure="hits@20",
    shown="{:.2f} of 20 items are clicked later",
    against="hits@20_last_group",
    note="most clicked of the last group: {:.2f}, five-fold",
)
POLICIES = ("greedy", "inslate", "ts", "eps", "plackett_luce", "popularity", "random")
WORDS = {
    "inslate": "in-slate Thompson",
    "ts": "Thompson",
    "eps": "epsilon-greedy",
    "plackett_luce": "Plackett-Luce",
}
NOTHING = "nothing"
NAMED = 6
"""Groups that the map names; the others say theirs on hover."""
KEY = (
    "<p class='r-note'><span class='r-key' style='--r-key:var(--r-ours)'>&#9670; interest</span>"
    "<span class='r-key' style='--r-key:var(--r-second)'>&#9679; clicked, in order</span>"
    "<span class='r-key' style='--r-key:#8a8f98'>&#9679; groups, by their chance of a click</span></p>"
)
Clicks = list[tuple[list[int], int]]
"""Slates that the person was shown here, and the slot clicked."""


def visit_of(number: float, clicks: Clicks) -> Visit:
    """The visitor after what was clicked on this page."""
    visit = arrive(int(number))
    for items, slot in clicks:
        visit = click(visit, items, slot)
    return visit


@once
def shelves(number: int, clicks: tuple[Any, ...], k: int, temperature: float) -> dict[str, ShelfShown]:
    """Slates of all policies, kept for the same choice."""
    visit = visit_of(number, [(list(items), slot) for items, slot in clicks])
    return shelf(visit, POLICIES, k, temperature=temperature)


def frozen(clicks: Clicks) -> tuple[Any, ...]:
    return tuple((tuple(items), slot) for items, slot in clicks)


@said
def show(
    number: float, k: float, temperature: float, policy: str, clicks: Clicks
) -> tuple[str, str, go.Figure, go.Figure, Any, str]:
    """Stat row, slates side by side, beliefs on the map and by group, what can be clicked, why."""
    visit = visit_of(number, clicks)
    found = shelves(int(number), frozen(clicks), int(k), float(temperature))
    mine = found[policy]
    stats = [
        Stat(f"{100 * mine.clicked:.0f} %", f"chance of a click, {words(policy)}", ours=True),
        Stat(f"{100 * found['popularity'].clicked:.0f} %", "popular items"),
        Stat(f"{100 * (mine.clicked + mine.regret):.0f} %", "the best slate there is"),
        Stat(f"{len(visit.events)}", "steps known of this visitor"),
        Stat(f"{mine.diversity:.2f}", "mean distance within the slate"),
    ]
    thought = beliefs(visit)
    choices = [NOTHING, *(f"{slot}: item {item}" for slot, item in enumerate(mine.slate.items, 1))]
    return (
        stat_row(stats),
        slates(found, policy),
        place_map(thought),
        by_group(thought),
        gr.update(choices=choices, value=choices[1]),
        why(mine),
    )


def words(policy: str) -> str:
    """A policy in words."""
    return WORDS.get(policy, policy)


def slates(found: dict[str, ShelfShown], mine: str) -> str:
    """All slates side by side: every slot's item, its group, its true chance of a click as a bar."""
    count = len(next(iter(found.values())).chance)
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("policy", "click", "regret", *(f"slot {slot}" for slot in range(1, count + 1)))
    )
    most = max(max(shown.chance) for shown in found.values())
    rows = []
    for policy, shown in found.items():
        kind = "r-ours" if policy == mine else "r-beside" if policy == "popularity" else ""
        cells = "".join(
            f'<td class="r-slot"><b>{item}</b><small>g{group} · {100 * chance:.0f} %</small>'
            f'<i style="--r-part:{100 * chance / max(most, 1e-9):.0f}%"></i></td>'
            for item, group, chance in zip(shown.slate.items, shown.slate.groups, shown.chance, strict=True)
        )
        rows.append(
            f'<tr class="{kind}"><th scope="row">{words(policy)}</th><td>{100 * shown.clicked:.0f} %</td>'
            f"<td>{shown.regret:.2f}</td>{cells}</tr>"
        )
    return (
        '<div class="r-wide" tabindex="0" role="region" aria-label="Slates of every policy">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def why(shown: ShelfShown) -> str:
    """Why each item is on the slate."""
    head = ("item", "group", "mean", "spread", "draw", "clicks", "shown", "propensity", "true chance")
    rows = []
    chances = zip(shown.slate.why, shown.slate.propensities, shown.chance, strict=True)
    for one, propensity, chance in chances:
        rows.append(
            (
                str(one["item"]),
                str(one["group"]),
                f"{one['mean']:.2f}",
                f"{one['spread']:.2f}",
                "-" if one["draw"] is None else f"{one['draw']:.2f}",
                str(one["clicks"]),
                str(one["shown"]),
                "not known" if propensity is None else f"{propensity:.4f}",
                f"{100 * chance:.1f} %",
            )
        )
    return table(head, rows)


def place_map(thought: dict[str, Any]) -> go.Figure:
    """Groups, clicks and the interest on two axes."""
    figure = go.Figure()
    x, y = zip(*thought["places"], strict=True)
    size = [8 + 60 * value**0.5 for value in thought["mean"]]
    likeliest = sorted(range(len(size)), key=lambda index: -size[index])
    named = set(likeliest[:NAMED])
    chances = zip(thought["group"], thought["mean"], strict=True)
    told = [f"g{group}: {100 * mean:.0f} %" for group, mean in chances]
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers+text",
        text=[f"g{group}" if index in named else "" for index, group in enumerate(thought["group"])],
        textposition="bottom center",
        hovertext=told,
        marker={"size": size, "color": BASELINE, "opacity": 0.5},
        hoverinfo="text",
    )
    if thought["clicked"]:
        a, b = zip(*thought["clicked"], strict=True)
        figure.add_scatter(
            x=a, y=b, mode="lines+markers", hoverinfo="skip", line={"color": PALETTE[1], "width": 1.4}
        )
    c, d = zip(*thought["interest"], strict=True)
    marker = {"size": 14, "color": OURS, "symbol": "diamond"}
    figure.add_scatter(x=c, y=d, mode="markers", marker=marker, hoverinfo="skip")
    best = thought["group"][likeliest[0]]
    figure.update_layout(
        template=template(),
        height=380,
        title=f"The model places them near group {best}",
        hovermode="closest",
        xaxis_title="first axis of the groups",
        yaxis_title="second axis",
        showlegend=False,
    )
    return figure


def by_group(thought: dict[str, Any], most: int = 12) -> go.Figure:
    """The likeliest groups with their spread."""
    order = sorted(range(len(thought["mean"])), key=lambda index: -thought["mean"][index])[:most]
    figure = go.Figure()
    figure.add_bar(
        x=[f"g{thought['group'][index]}" for index in order],
        y=[thought["mean"][index] for index in order],
        error_y={"array": [thought["spread"][index] for index in order], "color": BASELINE},
        marker_color=OURS,
    )
    figure.update_layout(
        template=template(),
        height=280,
        title=f"Group {thought['group'][order[0]]} is the likeliest: {100 * thought['mean'][order[0]]:.0f} %",
        xaxis_title="group of items",
        yaxis_title="share of later clicks",
        showlegend=False,
    )
    return figure


@said
def press(number: float, k: float, temperature: float, policy: str, clicks: Clicks, choice: str) -> Clicks:
    """What was shown and clicked, added to the visit."""
    mine = shelves(int(number), frozen(clicks), int(k), float(temperature))[policy]
    slot = 0 if choice == NOTHING or not choice else int(choice.split(":")[0])
    return [*clicks, ([int(item) for item in mine.slate.items], min(slot, len(mine.slate.items)))]


@once
def stroll(temperature: float) -> dict[str, Any]:
    """Twelve visitors under four policies."""
    return strolls(("greedy", "inslate", "popularity", "random"), count=12, rounds=8, temperature=temperature)


@said
def live(temperature: float) -> tuple[str, go.Figure]:
    """Regret, click rate and diversity of policies over a visit."""
    stands(0.1, "twelve visitors")
    found = stroll(float(temperature))
    figure = go.Figure()
    for index, (policy, row) in enumerate(found.items()):
        colour = OURS if policy == "inslate" else PALETTE[1 + index]
        width = 3 if policy == "inslate" else 1.4
        figure.add_scatter(y=row["regret"], name=words(policy), line={"color": colour, "width": width})
    figure.update_layout(
        template=template(),
        height=300,
        title="What each policy loses to the best slate",
        xaxis_title="slate",
        yaxis_title="clicks lost per person",
    )
    rows = [
        (words(policy), f"{row['regret'][-1]:.3f}", f"{100 * row['clicks']:.0f} %", f"{row['diversity']:.2f}")
        for policy, row in found.items()
    ]
    return table(("policy", "regret", "click rate", "diversity"), rows, words("inslate")), figure


@said
def games(density: float, temperature: float, seeds: float) -> tuple[str, go.Figure]:
    """The online loop: policies that learn from what they show."""
    world = town_of(float(density))
    done = iter((1, 2, 3))
    stands(0, "greedy")
    answer = compare(
        (world,),
        ("inslate", "ts"),
        (float(temperature),),
        int(seeds),
        positions=("known",),
        progress=lambda words: stands(next(done) / 3, words),
    )
    town = next(iter(answer["worlds"].values()))
    figure = go.Figure()
    rows = []
    for index, (name, row) in enumerate(town["policies"].items()):
        colour = OURS if name.startswith("inslate") else PALETTE[1 + index]
        figure.add_scatter(y=row["curve"], name=name, line={"color": colour, "width": 2})
        gap = f"{row['regret_difference']:+.2f}"
        gap += f" [{row['regret_difference_low']:+.2f}, {row['regret_difference_high']:+.2f}]"
        rows.append((name, f"{row['regret']:.2f}", gap, f"{row['clicks']:.3f}", f"{row['coverage']:.2f}"))
    figure.update_layout(
        template=template(),
        height=340,
        title=f"Least regret: {town['best']}, {density:g} impressions an item",
        xaxis_title="round",
        yaxis_title="cumulative regret",
    )
    head = ("policy", "regret", "difference to greedy", "clicks at the end", "coverage")
    return table(head, rows, town["best"], "greedy"), figure


@said
def judge_log(file: str | None) -> str:
    """Off-policy figures of an uploaded log: what uniform items would have earned."""
    from demos.uploads import uploaded
    from recsys.ope_actions import estimate, read_log

    if file is None:
        return ""
    answer = estimate(read_log(uploaded(file)), "random")
    rows = [
        (name, f"{row['value']:.5f}", f"[{row['value_low']:.5f}, {row['value_high']:.5f}]")
        for name, row in answer["estimates"].items()
        if row["value_low"] is not None
    ]
    stats = [
        Stat(
            f"{answer['estimates']['snips']['value']:.4f}", "clicks if items were random (SNIPS)", ours=True
        ),
        Stat(f"{answer['logged']:.4f}", "clicks in the log"),
        Stat(f"{100 * answer['ess_share']:.1f} %", "effective rows"),
        Stat("yes" if answer["trust"] else "do not trust", "to be believed?"),
    ]
    return stat_row(stats) + table(("estimator", "value", "95 % interval over users"), rows, "snips")


def build() -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="Recurra: recommendation", analytics_enabled=False) as page:
        gr.HTML(
            "<h1>What would they like?</h1><p class='r-lead'>Become one of the people of a simulated market: "
            "every policy's slate side by side, with the true chance of a click. Click, and see what the "
            "model makes of it.</p>",
            padding=False,
        )
        clicks = gr.State([])
        with gr.Row():
            with gr.Column(elem_classes="r-left"):
                number = gr.Slider(0, VISITORS - 1, value=7, step=1, label="Visitor")
                policy = gr.Dropdown(
                    [(words(name), name) for name in POLICIES], value="inslate", label="Policy that serves"
                )
                choice = gr.Dropdown([NOTHING], value=NOTHING, label="What do you click?", elem_id="choice")
                with gr.Row():
                    go_on = gr.Button("Click it", variant="primary", min_width=80)
                    again = gr.Button("Start over", min_width=60)
                with gr.Accordion("More settings", open=False):
                    temperature = gr.Slider(0, 2, value=0.3, step=0.1, label="Temperature of the draws")
                    k = gr.Slider(2, 12, value=6, step=1, label="Slots")
            with gr.Column(elem_classes="r-right"):
                figures = gr.HTML(elem_id="stats", padding=False)
                side = gr.HTML(elem_id="slates")
                places = gr.Plot(show_label=False, label="Beliefs on the map", elem_id="map")
                gr.HTML(KEY, elem_id="key", padding=False)
                groups = gr.Plot(show_label=False, label="Beliefs by group", elem_id="groups")
                with gr.Accordion("Why each item is there", open=False):
                    reasons = gr.HTML(elem_id="why")
                with gr.Accordion("Regret, clicks and diversity of the policies", open=False) as more:
                    walk = gr.HTML(elem_id="walk")
                    walked = gr.Plot(show_label=False, label="Regret over a visit", elem_id="walked")
                with gr.Accordion("Policies that learn: the online loop", open=False):
                    with gr.Row():
                        density = gr.Slider(5, 150, value=12, step=1, label="Impressions an item")
                        heat = gr.Slider(0.1, 1.5, value=0.3, step=0.1, label="Temperature")
                        seeds = gr.Slider(2, 10, value=3, step=1, label="Paired seeds")
                    with gr.Row():
                        play = gr.Button("Play", variant="primary", min_width=80)
                        halt = gr.Button("Stop", min_width=60)
                    won = gr.HTML(elem_id="games")
                    curves = gr.Plot(show_label=False, label="Cumulative regret", elem_id="curves")
                with gr.Accordion("Off-policy: what would another policy have earned?", open=False):
                    log = gr.File(
                        label="A log with propensities (CSV, Parquet)",
                        type="filepath",
                        height=120,
                        elem_id="log",
                    )
                    verdict = gr.HTML(elem_id="verdict")
        inputs = [number, k, temperature, policy, clicks]
        outputs = [figures, side, places, groups, choice, reasons]
        answers(
            page,
            show,
            inputs,
            outputs,
            [k.change, temperature.change, policy.change],
            word="recsys",
            name="recommend",
        )
        fresh = gr.on(
            [number.change, again.click],
            lambda: [],
            None,
            clicks,
            api_name="visit",
            show_progress="hidden",
            concurrency_id="recsys",
        )
        fresh.then(show, inputs, outputs, api_name="arrive", show_progress="minimal", concurrency_id="recsys")
        pressed = go_on.click(
            press,
            [*inputs, choice],
            clicks,
            api_name="click",
            show_progress="minimal",
            concurrency_id="recsys",
        )
        pressed.then(
            show, inputs, outputs, api_name="after", show_progress="minimal", concurrency_id="recsys"
        )
        more.expand(live, temperature, [walk, walked], api_name="policies", concurrency_id="recsys long")
        playing = play.click(
            games, [density, heat, seeds], [won, curves], api_name="simulate", concurrency_id="recsys long"
        )
        halt.click(None, cancels=[playing], api_visibility="private")
        log.change(judge_log, log, verdict, api_name="ope", concurrency_id="recsys long")
    return page
