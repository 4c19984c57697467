"""Pens from the stroke alphabet: where the tip is at what time, and what an IMU in the pen would tell.

The speed follows the two-thirds law, v = c k^(-1/3) with curvature k (Lacquaniti et al. 1983): slow in bends.
The IMU tells the tip's acceleration in the pen's tilted frame with gravity, and how fast the pen turns.
"""

import numpy as np

from vision.ocr.pen.strokes import Ink, steps_of, x_height
from vision.ocr.synth.alphabet import CAPITALS, DIGITS, MARKS, glyphs
from vision.ocr.synth.alphabet import LETTERS as SMALL_LETTERS
from vision.ocr.synth.writing import Writer, made_up, write

GRAVITY = 9.81
RATE_HZ = 100.0
HEIGHT_M = 0.004
"""Height of small letters on paper."""
SHORT, WORDS = 0.4, 0.35
"""Shares of the inks to learn from that are 1 to 3 characters, and that are at most 8."""
LETTERS = tuple("abcdefgh")
"""Of the letter classifier, as in the data of its paper: eight Latin letters."""


def timed(stroke: np.ndarray, speed: float, rng: np.random.Generator) -> np.ndarray:
    """A stroke (n, 2) with times: (m, 3) of x, y, t_s from 0, by the two-thirds law."""
    step = np.diff(stroke, axis=0)
    length = np.hypot(step[:, 0], step[:, 1])
    angle = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
    bend = np.abs(np.gradient(angle)) / np.maximum(length, 1e-3) if len(angle) > 1 else np.zeros(len(length))
    pace = speed * np.maximum(bend, 0.3) ** (-1 / 3) * np.exp(rng.normal(0, 0.05, len(length)))
    time = np.concatenate([[0.0], np.cumsum(length / np.maximum(pace, 1e-3))])
    return np.column_stack([stroke, time])


def ink_of(text: str, rng: np.random.Generator, scale: float = 1.0) -> Ink:
    """Somebody's pen for a text, sampled at 100 Hz, y downwards, x-height `scale`."""
    writer = Writer.drawn(rng)
    speed, now = rng.uniform(6, 14), 0.0
    parts: list[np.ndarray] = []
    for stroke in write(text, writer, rng, at_once=rng.random() < 0.6):
        if len(stroke) == 1:
            stroke = np.repeat(stroke, 2, 0) + np.array([[0, 0], [0.02, 0.02]])
        path = timed(stroke, speed, rng)
        count = max(3, int(path[-1, 2] * RATE_HZ) + 1)
        at = np.linspace(0, path[-1, 2], count)
        x, y = np.interp(at, path[:, 2], path[:, 0]), np.interp(at, path[:, 2], path[:, 1])
        down = np.ones(count)
        down[-1] = 0.0
        parts.append(np.column_stack([x * scale, -y * scale, at + now, down]))
        now += path[-1, 2] + rng.uniform(0.05, 0.25)
    points = np.concatenate(parts) if parts else np.zeros((2, 4))
    points[:, :2] += rng.normal(0, 0.008 * scale, (len(points), 2))
    return Ink(points, text)


def inks(count: int, seed: int, longest: int = 20) -> list[Ink]:
    """`count` inks of made-up words, each a function of (seed, number)."""
    known = glyphs()
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number, 5])
        text = made_up(rng, longest)
        text = " ".join("".join(c for c in word if c in known) for word in text.split()).strip() or "a"
        made.append(ink_of(text, rng))
    return made


def few_characters(rng: np.random.Generator) -> str:
    """One to three characters by chance, rare ones too."""
    known = glyphs()
    kinds = [list(SMALL_LETTERS), list(DIGITS), list(CAPITALS), list(MARKS), sorted(known)]
    chosen = rng.choice(5, int(rng.integers(1, 4)), p=[0.5, 0.2, 0.15, 0.05, 0.1])
    return "".join(c for c in (str(rng.choice(kinds[kind])) for kind in chosen) if c in known) or "a"


def lessons(count: int, seed: int, longest: int) -> list[tuple[np.ndarray, str]]:
    """Steps of `count` inks to learn from, and their texts: many short ones, words, and longer ones.

    The height of small letters is known, guessed or misjudged, as it will be.
    """
    known = glyphs()
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number, 7])
        kind = rng.random()
        if kind < SHORT:
            text = few_characters(rng)
        else:
            text = made_up(rng, 8 if kind < SHORT + WORDS else longest)
            text = " ".join("".join(c for c in word if c in known) for word in text.split()).strip() or "a"
        points = ink_of(text, rng).points
        height = x_height(points) if rng.random() < 0.4 else 1.0
        made.append((steps_of(points, height * float(np.exp(rng.normal(0, 0.15)))), text))
    return made


def imu(letter: str, rng: np.random.Generator) -> np.ndarray:
    """Accelerometer (m/s2) and gyroscope (rad/s) of a pen that writes a letter: (T, 6) at 10 ms."""
    ink = ink_of(letter, rng)
    time = ink.points[:, 2]
    at = np.arange(time[0], time[-1] + 0.02, 0.01)
    tip = np.column_stack([np.interp(at, time, ink.points[:, i] * HEIGHT_M) for i in (0, 1)])
    lift = 0.002 * (1 - np.interp(at, time, ink.points[:, 3]))
    place = np.column_stack([tip, lift])
    kernel = np.hanning(7) / np.hanning(7).sum()
    place = np.column_stack([np.convolve(np.pad(part, 3, "edge"), kernel, "valid") for part in place.T])
    force = np.gradient(np.gradient(place, 0.01, axis=0), 0.01, axis=0)
    # the pen leans towards the hand, and its lean follows the tip a little
    lean = rng.uniform(0.5, 0.9) + 6 * (place[:, 0] - place[:, 0].mean())
    turn = rng.uniform(-0.5, 0.5) + 4 * (place[:, 1] - place[:, 1].mean())
    force[:, 2] += GRAVITY
    c, s = np.cos(lean), np.sin(lean)
    x, z = c * force[:, 0] - s * force[:, 2], s * force[:, 0] + c * force[:, 2]
    c, s = np.cos(turn), np.sin(turn)
    y, z = c * force[:, 1] - s * z, s * force[:, 1] + c * z
    gyro = np.column_stack([np.gradient(lean, 0.01), np.gradient(turn, 0.01), rng.normal(0, 0.02, len(at))])
    told = np.column_stack([x, y, z, gyro])
    return told + rng.normal(0, 1, told.shape) * [0.05, 0.05, 0.05, 0.01, 0.01, 0.01]


def imu_set(count: int, seed: int, letters: tuple[str, ...] = LETTERS) -> list[tuple[np.ndarray, str]]:
    """`count` sequences with their letters, in turn."""
    return [
        (imu(letters[i % len(letters)], np.random.default_rng([seed, i, 6])), letters[i % len(letters)])
        for i in range(count)
    ]
