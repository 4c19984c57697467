"""`recurra trajectory predict`: answers are written as they come, so a log of any length fits into memory."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apps.trajectory.data import rhythm
from apps.trajectory.fence import Area, entries
from apps.trajectory.geo import to_enu
from apps.trajectory.model import Model
from apps.trajectory.predict import along, predict
from apps.trajectory.prediction import Prediction
from apps.trajectory.questions import closest_approach, entry_probability
from apps.trajectory.track import Track
from apps.trajectory.write import Sink, as_lines, record_of
from core.errors import ConfigError, DataError
from core.files import whole_file
from core.terminal import progress
from core.text import in_json

SHOWN = 50
"""Predictions that are shown to people; files have all."""
NEARBY_M = 300_000.0
"""A place so far from a geographic track is one in metres."""


@dataclass(frozen=True)
class Question:
    """What is asked of every track."""

    horizon_s: float | None = None
    at_s: float | None = None
    every: int | None = None
    coverage: float = 0.9
    max_gap: float | None = None
    near: np.ndarray | None = None
    """Metres, or latitude, longitude and altitude for a geographic track."""
    radius_m: float | None = None
    areas: Sequence[Area] = ()

    def answers(self, track: Track, model: Model) -> Iterator[Prediction]:
        """The predictions of one track, in order of time."""
        words: dict[str, Any] = {"coverage": self.coverage, "horizon_s": self.horizon_s}
        words["max_gap"] = self.max_gap
        if self.every is None:
            yield predict(track, model, at_s=self.at_s, **words)
            return
        for found in along(track, model, stride=self.every, until_s=self.at_s, **words):
            yield from found

    def record(self, track: Track, prediction: Prediction) -> dict[str, Any]:
        """One prediction with all that was asked."""
        record = record_of(track, prediction)
        if self.near is not None:
            record["approach"] = self.approach(track, prediction)
        if self.areas:
            record["fence"] = entries(prediction, list(self.areas), track.origin)
        return record

    def approach(self, track: Track, prediction: Prediction) -> dict[str, Any]:
        """Closest approach to the place, and the chance of entering the sphere around it."""
        assert self.near is not None
        place = in_metres(self.near, track)[: len(prediction.anchor)]
        nearest = closest_approach(prediction, place)
        chance = None if self.radius_m is None else entry_probability(prediction, place, self.radius_m)
        told: dict[str, Any] = {
            "ahead_s": nearest.ahead_s,
            "distance_m": nearest.distance_m,
            "entry_probability": chance,
        }
        if nearest.beyond_horizon:
            told["beyond_horizon"] = True
        elif nearest.ahead_s is not None and track.dated:
            told["utc"] = track.utc(prediction.time_s + nearest.ahead_s)
        return told


def in_metres(place: np.ndarray, track: Track) -> np.ndarray:
    """A place in the metres of a track: latitude, longitude, altitude where the track has them nearby."""
    geographic = track.origin is not None and abs(place[0]) <= 90 and abs(place[1]) <= 360
    if not geographic or track.origin is None:
        return place
    altitude = place[2] if len(place) > 2 else track.origin[2]
    found = to_enu(np.array([place[0], place[1], altitude]), track.origin)
    return found if np.linalg.norm(found[:2]) < NEARBY_M else place


def near_words(place: np.ndarray | None, track: Track) -> str | None:
    """What `--near` was taken for, where a track could be asked both ways."""
    if place is None or track.origin is None:
        return None
    metres = in_metres(place, track) is place
    kind = "metres east, north, up of its first fix" if metres else "latitude, longitude, altitude"
    return f"{track.name}: --near is taken for {kind}."


def ask(
    tracks: Sequence[Track],
    model: Model,
    question: Question,
    *,
    out: Path | None,
    json_path: str | None,
    failed: Sequence[str] = (),
) -> tuple[int, list[str], list[str]]:
    """Answer all tracks into `out` and `json_path`; gives count, lines for people, and what went wrong.

    Raises:
        DataError: not one prediction.
    """
    problems: list[str] = []
    shown: list[tuple[Track, Prediction]] = []
    records: list[dict[str, Any]] = []
    count = 0
    dims = max((min(track.positions.shape[1], model.dims) for track in tracks), default=model.dims)
    dated = any(track.dated for track in tracks)
    asked = question.near is not None or bool(question.areas)
    with ExitStack() as stack:
        sinks: list[Sink] = []
        if out is not None:
            file = stack.enter_context(stack.enter_context(whole_file(out)).open("w", encoding="utf-8"))
            sinks.append(Sink(file, out.suffix.lower(), dims, dated=dated, asked=asked))
        told: Any = None
        if json_path is not None and json_path != "-":
            told = stack.enter_context(stack.enter_context(whole_file(json_path)).open("w", encoding="utf-8"))
        step = stack.enter_context(progress("tracks", len(tracks)))
        for track in tracks:
            try:
                for prediction in question.answers(track, model):
                    record = question.record(track, prediction)
                    if count == 0 and json_path is not None:
                        told = told or sys.stdout
                        told.write('{"model": ' + in_json(model.name) + ',\n"predictions": [')
                    if json_path is not None:
                        told.write((",\n" if count else "\n") + in_json(record))
                    for sink in sinks:
                        sink.add(track, prediction, record)
                    if count < SHOWN:
                        shown.append((track, prediction))
                        records.append(record)
                    count += 1
            except DataError as error:
                problems.append(str(error))
            step()
        if not count:
            raise DataError(problems[0] if problems else "no track is long enough for a prediction.")
        if json_path is not None:
            told.write('\n],\n"skipped": ' + in_json([*problems, *failed]) + "}\n")
        for sink in sinks:
            sink.end()
    lines = as_lines(shown, records)
    if count > SHOWN:
        lines.append(f"... and {count - SHOWN:,} more; -o or --json writes all of them")
    return count, lines, problems


def slow_words(track: Track) -> str | None:
    """What is said of samples that are further apart than the model's steps."""
    step = rhythm(track.time_s)
    if step <= 0.1:
        return None
    return f"{track.name}: samples are {step:g} s apart, and so are the steps of the answer."


def place_of(text: str) -> np.ndarray:
    """`x,y,z` or `lat,lon,alt` as an array.

    Raises:
        ConfigError: it is neither.
    """
    try:
        found = np.array([float(word) for word in text.split(",")])
    except ValueError as error:
        raise ConfigError(f"--near wants metres x,y,z or lat,lon,alt; got {text!r}.") from error
    if len(found) not in (2, 3) or not np.isfinite(found).all():
        raise ConfigError(f"--near wants metres x,y,z or lat,lon,alt; got {text!r}.")
    return found
