"""Trajectory in the report: generated flights that the bundled weights never saw, beside all baselines."""

from typing import Any

import numpy as np

from apps.trajectory.evaluate import LEARNED
from core.report import number, percent, with_interval
from demos.markup import Stat
from demos.plots import drawing, svg
from demos.report import Section
from demos.theme import BASELINE, OURS, SOFT, TRUTH

FLIGHTS = 40
HEAD = ("method", "0.5 s", "1 s [95 %]", "2 s", "in 90 % ball")
MOST_BESIDE = 4
"""Simple methods in a plot; the rest stands in the table."""


def section(seed: int) -> Section:
    """Evaluate the bundled weights on generated flights and draw one of them."""
    from apps.trajectory.evaluate import evaluate
    from apps.trajectory.predict import load_model
    from apps.trajectory.synth import generate, recorded

    model = load_model()
    tracks = [recorded(flight) for flight in generate(seed, FLIGHTS, split="test", duration_s=30.0)]
    report = evaluate(model, tracks)
    ours, beside = report["model"], report["baselines"]
    best = best_beside(report)[0]
    shown = bend(model, tracks)
    return Section(
        title="Trajectory",
        question="Where will it be?",
        what=f"{FLIGHTS} generated flights, {report['n']:,} windows of 2 s of history at 10 Hz. Mean "
        "distance between predicted and true position, and how often the 90 % ball held the truth after 1 s.",
        stats=(
            Stat(number(ours["fde_1s"], 2, "m"), "off after 1 s", ours=True),
            Stat(number(beside["constant_velocity"]["fde_1s"], 2, "m"), "constant velocity"),
            Stat(number(beside[best]["fde_1s"], 2, "m"), f"{label(best)}, the best simple method"),
            Stat(percent(ours["coverage90_1s"], 0), "of outcomes in the 90 % ball"),
        ),
        head=HEAD,
        rows=rows(report),
        ours="model",
        compare=label(best),
        pictures=[
            (from_above(*shown), "The moment whose predicted path turns most nearly by a right angle, of all "
             "whose ball after 2 s has a radius of a seventh to a third of the way."),
            (over_horizon(report), "Error over the horizon: the model and the best of the others."),
        ],
        command="recurra trajectory predict flight.csv --horizon 2 -o prediction.json",
        links=(("Trajectory in the README", "README.md#trajectory"),
               ("Card of the weights", "apps/trajectory/weights/README.md")),
    )  # fmt: skip


def rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table: errors at three horizons with the interval at 1 s, and coverage."""
    found = []
    for who, figures in [("model", report["model"]), *report["baselines"].items()]:
        inside = figures.get("coverage90_1s")
        found.append(
            (
                label(who),
                number(figures["fde_0.5s"], 2, "m"),
                with_interval(figures, "fde_1s"),
                number(figures["fde_2s"], 2, "m"),
                "" if inside is None else percent(inside),
            )
        )
    return found


def label(name: str) -> str:
    """A method in words."""
    return {"ctrv": "constant turn rate", "ctra": "turn and acceleration", "imm": "IMM filter"}.get(
        name, name.replace("_", " ").replace("kalman", "Kalman")
    )


def best_beside(report: dict[str, Any]) -> list[str]:
    """The simple methods of a report, best first at 1 s."""
    simple = {who: figures for who, figures in report["baselines"].items() if who not in ("hold", *LEARNED)}
    return sorted(simple, key=lambda who: simple[who]["fde_1s"])


def bend(model: Any, tracks: list[Any]) -> tuple[Any, Any]:
    """Track and prediction of the moment to show.

    The rule looks at predictions only, never at what happened: of all moments whose predicted way is longer
    than 4 m and whose ball at its end has a radius of a seventh to a third of it, the one whose predicted
    path turns most nearly by a right angle.
    """
    from apps.trajectory.predict import predict_along

    chosen, nearest = None, np.inf
    for track in tracks:
        for answer in predict_along(track, model, stride=10):
            legs = np.diff(np.concatenate([answer.anchor[None], answer.mean]), axis=0)
            way = float(np.linalg.norm(legs, axis=1).sum())
            if way < 4 or answer.radius is None or not way / 7 <= answer.radius[-1] <= way / 3:
                continue
            turn = np.unwrap(np.arctan2(legs[:, 1], legs[:, 0]))
            if abs(abs(turn[-1] - turn[0]) - np.pi / 2) < nearest:
                chosen, nearest = (track, answer), abs(abs(turn[-1] - turn[0]) - np.pi / 2)
    if chosen is None:  # nothing moves: any moment will do
        return tracks[0], predict_along(tracks[0], model, stride=10)[0]
    return chosen


def from_above(track: Any, answer: Any, width: float = 10.0, height: float = 5.0) -> str:
    """History, prediction with its tube, straight on and outcome at one moment, from above, as SVG."""
    time_s, known = track.time_s, answer.time_s
    before = track.positions[(time_s <= known + 1e-9) & (time_s > known - 2.1)][:, :2]
    after = track.positions[(time_s >= known - 1e-9) & (time_s < known + answer.ahead_s[-1] + 1e-9)][:, :2]
    path = np.concatenate([answer.anchor[None], answer.mean])[:, :2]
    velocity = (before[-1] - before[0]) / max(2.0, 1e-6) if len(before) < 3 else slope(track, known)
    straight = path[0] + np.concatenate([[0.0], answer.ahead_s])[:, None] * velocity
    far = f"{answer.ahead_s[-1]:g} s"
    with drawing(width, height) as (figure, axes):
        if answer.radius is not None:
            outline = tube(path, np.concatenate([[0.0], answer.radius]))
            axes.fill(*outline.T, color=OURS, alpha=0.16, linewidth=0)
        axes.plot(*before.T, color=TRUTH, linewidth=2.2)
        axes.plot(*after.T, color=TRUTH, linewidth=1.8, linestyle=(0, (1, 1.6)))
        axes.plot(*straight.T, color=BASELINE, linewidth=1.6)
        axes.plot(*path.T, color=OURS, linewidth=3.4)
        axes.plot(*path[0], "o", color=TRUTH, markersize=6)
        axes.set_aspect("equal", adjustable="datalim")
        named(axes, [(path, f"predicted, {far} ahead", OURS), (straight, "constant velocity", BASELINE),
                     (after, "what happened", TRUTH), (before[::-1], "history", TRUTH)])  # fmt: skip
        axes.set_xlabel("east (m)")
        axes.set_ylabel("north (m)")
        off = np.linalg.norm(path[-1] - after[-1]), np.linalg.norm(straight[-1] - after[-1])
        axes.set_title(
            f"{far} ahead it is {off[0]:.1f} m off, straight on {off[1]:.1f} m (from above)", pad=12
        )
        return svg(
            figure,
            f"A flight from above: history, the path predicted for {far} inside its 90 % tube, "
            "constant velocity, and what happened.",
        )


def thumbnail(track: Any, answer: Any) -> str:
    """The same moment without words, for the card of the hub: `demos/pictures/trajectory.svg`."""
    known = answer.time_s
    before = track.positions[(track.time_s <= known + 1e-9) & (track.time_s > known - 2.1)][:, :2]
    path = np.concatenate([answer.anchor[None], answer.mean])[:, :2]
    straight = path[0] + np.concatenate([[0.0], answer.ahead_s[:10]])[:, None] * slope(track, known)
    turn = np.linalg.svd(path[-1] - before[0][None])[2]  # the way runs from left to right
    before, path, straight = (line @ turn.T for line in (before, path, straight))
    with drawing(3.2, 1.5) as (figure, axes):
        axes.fill(*tube(path, np.concatenate([[0.0], answer.radius])).T, color=OURS, alpha=0.18, linewidth=0)
        axes.plot(*straight.T, color=BASELINE, linewidth=1.4)
        axes.plot(*before.T, color=TRUTH, linewidth=2)
        axes.plot(*path.T, color=OURS, linewidth=3)
        axes.plot(*path[0], "o", color=TRUTH, markersize=5)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set_axis_off()
        return svg(figure, "A path, the prediction that bends on inside its tube, and going straight on.")


def slope(track: Any, known: float) -> np.ndarray:
    """(2,) velocity over the newest 0.3 s: what going straight on means at a noisy sample."""
    recent = (track.time_s <= known + 1e-9) & (track.time_s > known - 0.35)
    time_s, positions = track.time_s[recent], track.positions[recent][:, :2]
    return np.polyfit(time_s, positions, 1)[0] if len(time_s) > 1 else np.zeros(2)


def tube(path: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(m, 2) outline of the circles of a radius along a path, with a round end."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    side = np.stack([-along[:, 1], along[:, 0]], 1)
    start = np.arctan2(side[-1, 1], side[-1, 0])
    arc = start - np.linspace(0, np.pi, 25)
    end = path[-1] + radius[-1] * np.stack([np.cos(arc), np.sin(arc)], 1)
    left, right = path + radius[:, None] * side, path - radius[:, None] * side
    return np.concatenate([left, end, right[::-1]])


def named(axes: Any, ends: list[tuple[np.ndarray, str, str]]) -> None:
    """Labels at the ends of paths (n, 2), on the side they lead to, moved apart where they would meet."""
    axes.figure.canvas.draw()
    taken: list[float] = []
    for path, words, colour in sorted(ends, key=lambda end: -end[0][-1, 1]):
        place = path[-1]
        right = place[0] >= path[-2, 0] if len(path) > 1 else True
        _, y = axes.transData.transform(place)
        shift = 0.0
        while any(abs(y + shift - other) < 16 for other in taken):
            shift -= 4
        taken.append(y + shift)
        axes.annotate(
            words, place, xytext=(8 if right else -8, shift * 0.72 - 3), textcoords="offset points",
            color=SOFT if colour == BASELINE else colour, ha="left" if right else "right",
            fontsize=9, fontweight="bold" if colour == OURS else "normal", annotation_clip=False,
        )  # fmt: skip


def over_horizon(report: dict[str, Any]) -> str:
    """Mean error over the horizon, ours and the best others, as SVG."""
    beside = best_beside(report)
    shown = {"model": report["model"], **{who: report["baselines"][who] for who in beside[:MOST_BESIDE]}}
    with drawing(9.4, 3.8) as (figure, axes):
        ends, x = [], ()
        for who, figures in reversed(shown.items()):
            known = [(h, value) for h in (0.5, 1.0, 2.0) if (value := figures[f"fde_{h:g}s"]) is not None]
            ours = who == "model"
            colour = OURS if ours else BASELINE
            x, y = zip(*known, strict=True)
            axes.plot(
                x, y, marker="o", color=colour, linewidth=3.2 if ours else 1.3, markersize=6 if ours else 4
            )
            ends.append((np.stack([x, y], 1), label(who), colour))
        named(axes, ends)
        axes.set_xlabel("seconds ahead")
        axes.set_ylabel("error (m)")
        axes.set_ylim(bottom=0)
        axes.set_xticks(x)
        best = report["baselines"][beside[0]]["fde_1s"] / max(report["model"]["fde_1s"], 1e-9)
        axes.set_title(f"After 1 s the best simple method is {best:.1f} times as far off", pad=12)
        return svg(figure, "Mean error over the horizon: the model beside the best simple methods.")
