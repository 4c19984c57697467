"""Text -> pen strokes of one writer -> ink, and lines of made-up text."""

from dataclasses import dataclass

import cv2
import numpy as np

from vision.ocr.synth.alphabet import LETTERS, glyphs
from vision.ocr.synth.fonts import set_line
from vision.ocr.synth.paper import paper

JOINING = set(LETTERS) | set("éèêëàâäçîïôöùûüœ")
ONSETS = "b c ch d f g gr j l m n p pl pr qu r s st t tr v".split()
VOWELS = "a e é i o u ai au eu ou oi è ê".split()
ENDINGS = ["", "", "n", "r", "s", "t", "nt", "l", "x", "ment", "tion", "e", "es"]
SMALL = "de la le et à un une du en que qui il ne pas pour ma mon je tout the of and to in is a".split()


@dataclass(frozen=True)
class Writer:
    """How somebody writes; lengths in x-heights."""

    slant: float
    width: float
    jitter: float
    joins: float
    tremor: float
    letter_gap: float
    word_gap: float
    wander: float
    thickness: float
    nib: float
    contrast: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Writer":
        """A writer by chance."""
        return cls(
            slant=rng.normal(0.25, 0.2),
            width=rng.uniform(0.7, 1.25),
            jitter=rng.uniform(0.015, 0.05),
            joins=rng.choice([rng.uniform(0.6, 1.0), rng.uniform(0, 0.3)]),
            tremor=rng.uniform(0, 0.012),
            letter_gap=rng.uniform(-0.05, 0.2),
            word_gap=rng.uniform(0.5, 1.2),
            wander=rng.uniform(0, 0.12),
            thickness=rng.uniform(0.07, 0.17),
            nib=rng.uniform(0.4, 1.2),
            contrast=rng.uniform(0, 0.6),
        )


def write(text: str, writer: Writer, rng: np.random.Generator, *, at_once: bool = False) -> list[np.ndarray]:
    """Pen strokes (n, 2) of a text, y up, x-height 1; unknown characters leave a gap.

    at_once: dots, bars and accents follow their letter at once, and not the word.
    """
    table = glyphs()
    preferred = {name: int(rng.integers(len(variants))) for name, variants in table.items()}
    strokes: list[np.ndarray] = []
    late: list[np.ndarray] = []
    x, base, joined = 0.0, 0.0, None
    for character in text:
        base = 0.9 * base + rng.normal(0, writer.wander * 0.3)
        if character not in table:
            x += writer.word_gap * writer.width
            strokes, late, joined = [*strokes, *late], [], None
            continue
        variants = table[character]
        which = preferred[character] if rng.random() < 0.8 else int(rng.integers(len(variants)))
        size = 1 + rng.normal(0, 0.05)
        placed = [
            (stroke + rng.normal(0, writer.jitter, stroke.shape)) * [writer.width * size, size] + [x, base]
            for stroke in variants[which]
        ]
        body, rest = placed[0], placed[1:]
        joins = character in JOINING and rng.random() < writer.joins
        if joined is not None and joins:
            middle = (joined[-1] + body[0]) / 2 + [0.05, -0.06]
            strokes[-1] = np.concatenate([joined, middle[None], body])
        else:
            strokes.append(body)
        joined = strokes[-1] if joins else None
        if at_once and rest:
            strokes, joined = [*strokes, *rest], None
        else:
            late += rest
        x = max(stroke[:, 0].max() for stroke in placed[:1]) + writer.letter_gap * writer.width
        if not joins:
            x += 0.08
    return [smooth(stroke, writer, rng) for stroke in [*strokes, *late]]


def smooth(points: np.ndarray, writer: Writer, rng: np.random.Generator) -> np.ndarray:
    """Catmull-Rom through the points, slanted, with a little tremor."""
    if len(points) > 2:
        p = np.concatenate([points[:1], points, points[-1:]])
        t = np.linspace(0, 1, 6, endpoint=False)[None, :, None]
        a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
        curve = 0.5 * (
            2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
        )
        points = np.concatenate([curve.reshape(-1, 2), points[-1:]])
    points = points + rng.normal(0, writer.tremor, points.shape)
    return np.stack([points[:, 0] + writer.slant * points[:, 1], points[:, 1]], 1)


def ink(strokes: list[np.ndarray], writer: Writer, x_height: float, rng: np.random.Generator) -> np.ndarray:
    """Strokes drawn as ink 0..1 (h, w); downstrokes thicker by the writer's nib."""
    return ink_on_line(strokes, writer, x_height, rng)[0]


def ink_on_line(
    strokes: list[np.ndarray], writer: Writer, x_height: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Ink 0..1 (h, w) and the row on which its letters stand."""
    everything = np.concatenate(strokes) if strokes else np.zeros((1, 2))
    left = everything[:, 0].min()
    up, down = 1.9 + rng.uniform(0, 0.3), 0.85 + rng.uniform(0, 0.3)
    width = int((everything[:, 0].max() - left + 1.0) * x_height) + 1
    out = np.zeros((int((up + down) * x_height), width), np.uint8)
    for stroke in strokes:
        at = (np.stack([stroke[:, 0] - left + 0.5, up - stroke[:, 1]], 1)) * x_height
        if len(at) == 1:
            at = np.concatenate([at, at + 0.5])
        step = np.diff(at, axis=0)
        angle = np.arctan2(step[:, 1], step[:, 0])
        heavy = 1 + writer.contrast * np.sin(angle - writer.nib + np.pi / 2)
        thick = np.maximum(writer.thickness * x_height * heavy, 1.0)
        fixed = np.round(at * 8).astype(np.int32)
        for i in range(len(step)):
            cv2.line(out, fixed[i], fixed[i + 1], 255, round(thick[i]), cv2.LINE_AA, 3)  # pyright: ignore
    return out.astype(np.float32) / 255, up * x_height


def picture(text: str, rng: np.random.Generator) -> np.ndarray:
    """A grey line (h, w) of uint8 in some writer's hand, at times with neighbours' ink and bleed-through."""
    writer = Writer.drawn(rng)
    x_height = rng.uniform(16, 30)
    drawn = ink(write(text, writer, rng), writer, x_height, rng)
    h, w = drawn.shape
    drawn *= 1 - rng.uniform(0, 0.35) * cv2.resize(
        rng.random((3, max(3, w // 30))).astype(np.float32), (w, h), interpolation=cv2.INTER_CUBIC
    ).clip(0, 1)
    if rng.random() < 0.5:
        other = ink(write(made_up(rng), writer, rng), writer, x_height, rng)[:, :w]
        shift = int(h * rng.uniform(0.62, 0.8)) * (1 if rng.random() < 0.5 else -1)
        moved = np.zeros_like(drawn)
        if shift > 0:
            moved[shift:, : other.shape[1]] = other[: h - shift][: h - shift]
        else:
            rows = min(h + shift, other.shape[0] + shift)
            moved[:rows, : other.shape[1]] = other[-shift : -shift + rows]
        drawn = np.maximum(drawn, moved)
    if rng.random() < 0.25:
        back = cv2.GaussianBlur(drawn[:, ::-1], (0, 0), 1.2) * np.float32(rng.uniform(0.1, 0.25))
        drawn = np.maximum(drawn, back)
    return paper(drawn, rng)


def letter(seed: int, count: int = 7) -> tuple[np.ndarray, list[str]]:
    """A page (h, w) of uint8 in one hand, and its lines from above."""
    rng = np.random.default_rng([seed, 77])
    writer = Writer.drawn(rng)
    x_height = rng.uniform(20, 24)
    texts = [made_up(rng, 42) for _ in range(count)]
    drawn = [ink(write(text, writer, rng), writer, x_height, rng) for text in texts]
    pitch = int(3.1 * x_height)
    width = max(part.shape[1] for part in drawn) + 180
    sheet = np.zeros((pitch * count + 200, width), np.float32)
    for number, part in enumerate(drawn):
        top, left = 90 + number * pitch, 90 + int(rng.integers(0, 12))
        spot = sheet[top : top + part.shape[0], left : left + part.shape[1]]
        np.maximum(spot, part[: spot.shape[0]], out=spot)
    return paper(sheet, rng, rules=False), texts


def made_up(rng: np.random.Generator, longest: int = 45) -> str:
    """Words that nobody wrote: small words, syllables, names, numbers and the marks between them."""
    limit = int(rng.integers(4, longest + 1))
    words: list[str] = []
    while sum(map(len, words)) + len(words) < limit:
        kind = rng.random()
        if kind < 0.3:
            word = str(rng.choice(SMALL))
        elif kind < 0.4:
            word = str(rng.integers(1, 10 ** int(rng.integers(1, 5))))
        else:
            word = "".join(
                f"{rng.choice(ONSETS)}{rng.choice(VOWELS)}" for _ in range(int(rng.integers(1, 4)))
            ) + str(rng.choice(ENDINGS))
            if rng.random() < 0.2:
                word = word[:1].upper() + word[1:]
            if rng.random() < 0.05:
                word = f"{rng.choice(list('dljmn'))}'{word}"
        mark = rng.random()
        words.append(word + ("," if mark < 0.08 else "." if mark < 0.12 else ":" if mark < 0.13 else ""))
    return " ".join(words)


def lines(
    count: int, seed: int, texts: list[str] | None = None, fonts: float = 0.0
) -> list[tuple[np.ndarray, str]]:
    """`count` grey lines with their texts; words are made up, or shuffled from those of `texts`.

    fonts: share that is set in installed fonts, where there are such; 0 is the same on every machine.
    """
    pool = sorted({word for text in texts for word in text.split()}) if texts else None
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        text = made_up(rng)
        if pool and rng.random() < 0.7:
            text = " ".join(str(word) for word in rng.choice(pool, max(1, len(text) // 6)))
        known = glyphs()
        text = " ".join("".join(c for c in word if c in known) for word in text.split())
        text = " ".join(text.split()) or "a"
        grey = set_line(text, rng) if fonts and rng.random() < fonts else None
        made.append((picture(text, rng) if grey is None else grey, text))
    return made


def digit_strings(
    count: int, seed: int, longest: int = 10, shortest: int = 1
) -> list[tuple[np.ndarray, str]]:
    """`count` grey strings of digits from the stroke alphabet, where no digits are at hand."""
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        length = int(rng.integers(shortest, longest + 1))
        text = "".join(rng.choice(list("0123456789"), length))
        writer = Writer.drawn(rng)
        made.append((paper(ink(write(text, writer, rng), writer, rng.uniform(14, 24), rng), rng), text))
    return made
