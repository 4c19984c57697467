"""`recurra ocr train segment`: a small network that marks baselines, for hands our own steps do not fit.

    page at 800 columns -> convolutions at a quarter of that -> LSTMs along both axes -> logits of baselines

The truth is each baseline drawn 8 pixels thick; the loss is binary cross entropy plus 1 - Dice. The run ends
by finding the lines of three training pages and fails where fewer than half of them are found.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import ConfigError, DataError, WorkError
from core.training import Outcome, check_folder
from core.training import train as run_loop
from core.training.drawn import DrawnBatches
from core.training.options import LoopOptions
from core.weights import Card
from vision.ocr.answer import Line, Page, Point
from vision.ocr.formats import read_page_file
from vision.ocr.image import read_grey
from vision.ocr.metrics import matched
from vision.ocr.models.marks import SPEC, STRIDE, WIDTH, Marks, seen
from vision.ocr.readers import page_files
from vision.ocr.segmentation.baselines import lines_from_map
from vision.ocr.synth.pages import Placed, dense, leaning, register, two_columns, with_notes
from vision.ocr.training import planned

PATCH = 384
THICK = 8
"""Pixels of a drawn baseline."""


@dataclass(frozen=True)
class SegmentConfig:
    """Settings of a segmenter's training."""

    seed: int = 0
    steps: int = 40
    batch: int = 4
    generated: int = 24
    makers: int = 1  # processes that make the generated pages
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(epochs=15, lr=2e-3, weight_decay=1e-4, warmup=0.1)
    )


def drawn(page: Page, shape: tuple[int, ...]) -> Tensor:
    """The baselines of a page as a map of the network's output."""
    factor = WIDTH / max(page.width_px, 1)
    out = np.zeros(shape, np.uint8)
    for line in page.lines:
        points = np.array(line.baseline or below(line), float) * factor
        cv2.polylines(out, [np.round(points).astype(np.int32)], False, 1, THICK)  # pyright: ignore
    return torch.from_numpy(out).float()


def below(line: Line) -> tuple[tuple[float, float], ...]:
    """A baseline for a line that has none: the lower quarter of its box."""
    x0, y0, x1, y1 = line.box
    return ((x0, y1 - 0.25 * (y1 - y0)), (x1, y1 - 0.25 * (y1 - y0)))


class Patches:
    """Squares of pages with their map."""

    def __init__(self, pages: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.pages = list(pages)

    def __call__(self, counts: Any, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        total = sum(counts.values()) if isinstance(counts, dict) else int(counts)
        inks, marks = [], []
        for _ in range(total):
            page, mark = self.pages[int(torch.randint(len(self.pages), (), generator=generator))]
            y = int(torch.randint(max(1, page.shape[0] - PATCH + 1), (), generator=generator))
            x = int(torch.randint(max(1, page.shape[1] - PATCH + 1), (), generator=generator))
            inks.append(padded(page[y : y + PATCH, x : x + PATCH]))
            marks.append(padded(mark[y : y + PATCH, x : x + PATCH]))
        return torch.stack(inks)[:, None], torch.stack(marks)[:, None]


def padded(part: Tensor) -> Tensor:
    """A patch of full size."""
    return F.pad(part, (0, PATCH - part.shape[1], 0, PATCH - part.shape[0]))


def loss_of(logits: Tensor, marks: Tensor) -> Tensor:
    """Binary cross entropy plus 1 - Dice at the network's resolution."""
    truth = F.max_pool2d(marks, STRIDE, ceil_mode=True)[..., : logits.shape[2], : logits.shape[3]]
    logits = logits[..., : truth.shape[2], : truth.shape[3]]
    p = logits.sigmoid()
    dice = (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)
    return F.binary_cross_entropy_with_logits(logits, truth) + 1 - dice


def train_segmenter(
    config: SegmentConfig,
    out: str | Path,
    data: Sequence[str | Path] = (),
    *,
    device: Any = "cpu",
    minutes: float | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train into the run folder `out` on folders of ALTO or PAGE with their images, or on generated pages.

    Raises:
        ConfigError: there is nothing to train on, or a run is there already.
        DataError: no page with lines.
        WorkError: the trained network finds fewer than half of the lines of its own training pages.
    """
    check_folder(out, resume)
    began = time.monotonic()
    pages = read_pages(data) if data else []
    if data and not pages:
        raise DataError("there is no page with lines in these files.")
    pages += generated(config.generated, config.seed, config.makers)
    if not pages:
        raise ConfigError("there is nothing to train on: give data, or set generated.")
    ready = [(seen(grey), page) for grey, page in pages]
    examples = [(ink, drawn(page, tuple(ink.shape))) for ink, page in ready]
    held = max(1, len(examples) // 8)
    torch.manual_seed(config.seed)
    model = Marks().to(device)

    def step(network: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"loss": loss_of(network(batch[0]), batch[1])}

    def validate(network: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            losses = [
                float(loss_of(network(ink[None, None].to(device)), mark[None, None].to(device)))
                for ink, mark in examples[:held]
            ]
        return {"loss_val": float(np.mean(losses))}

    source = DrawnBatches(config.steps, config.batch, Patches(examples[held:] or examples), config.seed)
    if minutes is not None:
        config = planned(config, model, step, source, minutes, began, out if resume else None)
    outcome = run_loop(
        model,
        step,
        source,
        config.loop,
        out,
        validate=validate,
        score="loss_val",
        settings=asdict(config),
        seed=config.seed,
        card=Card(
            "ocr segment", "lstm", f"{len(pages)} pages", "files: their own terms", extra={"vgsl": SPEC}
        ),
        resume=resume,
        quiet=quiet,
        began=began,
    )
    recall = found_again(outcome.weights, pages[:3])
    if recall < 0.5:
        raise WorkError(
            f"{out}: the trained network finds {recall:.0%} of the lines of three training pages; "
            "train longer, or look at the baselines of the data."
        )
    return outcome


def found_again(weights: Path, pages: Sequence[tuple[np.ndarray, Page]]) -> float:
    """Share of the lines of pages that weights find."""
    from vision.ocr.segmentation.finder import own_heat

    heat = own_heat(weights)
    total = hits = 0
    for grey, page in pages:
        lines = lines_from_map(heat(grey), grey)
        total += len(page.lines)
        hits += len(matched([line.box for line in page.lines], [line.box for line in lines]))
    return hits / max(total, 1)


def read_pages(data: Sequence[str | Path]) -> list[tuple[np.ndarray, Page]]:
    """Pages of XML files and folders, with their images."""
    found = []
    for path, image in page_files(data):
        page = read_page_file(path)
        if page.lines:
            found.append((read_grey(image), page))
    return found


MAKERS = (dense, dense, dense, two_columns, with_notes, register)
LEAN = 1.2
"""Degrees, the spread of how far generated pages lie askew."""


def generated(count: int, seed: int, makers: int = 1) -> list[tuple[np.ndarray, Page]]:
    """Generated pages, made by `makers` processes, with the baselines on which they were written."""
    numbers = [seed * 1000 + number for number in range(count)]
    if makers == 1 or count < 2:
        return [one_page(number) for number in numbers]
    with ProcessPoolExecutor(makers, mp_context=get_context("forkserver")) as pool:
        return list(pool.map(one_page, numbers))


def one_page(number: int) -> tuple[np.ndarray, Page]:
    """One generated page."""
    rng = np.random.default_rng([number, 80])
    grey, placed = MAKERS[number % len(MAKERS)](number)
    grey, baselines = leaning(grey, placed, float(rng.normal(0, LEAN)))
    height, width = grey.shape
    lines = tuple(
        Line(text.text, 1.0, polygon=around(line, text), baseline=line)
        for text, line in zip(placed, baselines, strict=True)
    )
    return grey, Page(f"generated {number}", width, height, lines)


def around(line: tuple[Point, Point], text: Placed) -> tuple[Point, ...]:
    """A quadrangle about a baseline, as high as the ink of its text."""
    (x0, y0), (x1, y1) = line
    up, down = text.row - text.box[1], max(text.box[3] - text.row, 1.0)
    return ((x0, y0 - up), (x1, y1 - up), (x1, y1 + down), (x0, y0 + down))
