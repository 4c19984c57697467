"""Trajectory in the report: generated flights that the bundled weights never saw, beside all baselines."""

from typing import Any

from demos.quickstart import Section, png
from demos.theme import BASELINE, OURS, TRUTH


def section(seed: int) -> Section:
    """trajectory: where will a drone be? Generated flights that the bundled weights never saw."""
    from apps.trajectory.evaluate import evaluate
    from apps.trajectory.predict import load_model
    from apps.trajectory.synth import generate, recorded

    model = load_model()
    tracks = [recorded(flight) for flight in generate(seed, 40, split="test", duration_s=30.0)]
    report = evaluate(model, tracks)
    overall = report["overall"]
    rows = []
    for name in [key for key in overall if key != "n"]:
        row = overall[name]
        inside = row.get("coverage90", {}).get("1.0")
        cells = [number(row["fde"].get(key)) for key in ("0.5", "1.0", "2.0")]
        rows.append((name, *cells, "" if inside is None else f"{100 * inside:.1f} %"))
    return Section(
        title="Trajectory prediction",
        what=f"{len(tracks)} generated flights, {overall['n']} windows of 2 s of history at 10 Hz. Distance "
        "between predicted and true position in metres, and how often the 90 % ball held the truth at 1 s.",
        head=("method", "0.5 s", "1 s", "2 s", "in 90 % ball"),
        rows=rows,
        figures=[
            ("Predictions along one flight, with their 90 % balls.", flight_picture(model, widest(tracks))),
            ("Error over the horizon.", horizon_picture(overall)),
        ],
        command="recurra trajectory predict flight.csv --horizon 2 -o prediction.json",
    )


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def widest(tracks: list[Any]) -> Any:
    """The track that turns most: it shows more than a straight one."""
    import numpy as np

    def turning(track: Any) -> float:
        steps = np.diff(track.positions[::10, :2], axis=0)
        angle = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        return float(np.abs(np.diff(angle)).sum() * min(np.linalg.norm(np.ptp(track.positions, axis=0)), 40))

    return max(tracks, key=turning)


def flight_picture(model: Any, track: Any) -> str:
    """The flight from above with some predictions."""
    import matplotlib.pyplot as plt
    import numpy as np
    from matplotlib.patches import Circle

    from apps.trajectory.predict import predict_along

    figure, axes = plt.subplots(figsize=(7, 5.5))
    axes.plot(track.positions[:, 0], track.positions[:, 1], color=BASELINE, linewidth=1, label="flight")
    for index, prediction in enumerate(predict_along(track, model, stride=15)[:16]):
        path = np.concatenate([prediction.anchor[None], prediction.mean])
        axes.plot(
            path[:, 0], path[:, 1], color=OURS, linewidth=2, label="predicted 2 s" if not index else None
        )
        axes.plot(*prediction.anchor[:2], ".", color=TRUTH, markersize=5)
        if prediction.radius is not None:
            step = min(9, len(prediction.radius) - 1)
            ball = Circle(tuple(prediction.mean[step, :2]), prediction.radius[step], color=OURS, alpha=0.12)
            axes.add_patch(ball)
    axes.set_aspect("equal")
    axes.set_xlabel("east (m)")
    axes.set_ylabel("north (m)")
    axes.set_title(track.name)
    axes.legend(frameon=False)
    return png(figure)


def horizon_picture(overall: dict[str, Any]) -> str:
    """Final displacement error over the horizon, ours and the baselines."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2))
    for name, row in overall.items():
        if name in ("n", "hold"):
            continue
        known = [(float(key), value) for key, value in row["fde"].items() if value is not None]
        ours = name == "model"
        axes.plot(
            [h for h, _ in known],
            [value for _, value in known],
            marker="o",
            color=OURS if ours else None,
            linewidth=3 if ours else 1,
            alpha=1 if ours else 0.6,
            label=name.replace("_", " "),
            zorder=3 if ours else 2,
        )
    axes.set_xlabel("horizon (s)")
    axes.set_ylabel("error (m)")
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return png(figure)
