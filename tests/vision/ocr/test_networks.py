"""A batch never changes a line's result, and the networks say what they give."""

from copy import deepcopy

import pytest
import torch

from core.config import replace
from tests.vision.ocr.conftest import SMALL
from vision.ocr.config import TrainConfig, defaults
from vision.ocr.models.folding import folded
from vision.ocr.models.parts import BothWays, hide_spans
from vision.ocr.models.presets import build
from vision.ocr.recognise import log_probabilities


def network(task: str, **model: object) -> tuple[torch.nn.Module, TrainConfig]:
    settings = {"model": {**SMALL["model"], **model}}
    config = replace(defaults(task), settings)
    return build(config, 9).eval(), config


@pytest.mark.parametrize("name", ["lines", "digits", "pylaia"])
def test_a_line_alone_equals_the_line_in_a_wide_batch(name: str) -> None:
    net, config = network("digits" if name == "digits" else "lines", name=name)
    widths = torch.tensor([96, 48, 81])
    ink = torch.zeros(3, 1, config.line.height, 96)
    for row, width in zip(ink, widths.tolist(), strict=True):
        row[:, :, :width] = torch.rand(config.line.height, width)
    with torch.no_grad():
        together, _ = net(ink, widths)
        frames = net.frames(widths).tolist()  # pyright: ignore
        for i, (width, n) in enumerate(zip(widths.tolist(), frames, strict=True)):
            alone, _ = net(ink[i : i + 1, :, :, :width])
            assert alone.shape[0] == n
            torch.testing.assert_close(together[:n, i], alone[:, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("task", ["lines", "digits"])
def test_a_network_that_only_reads_holds_its_norms_and_answers_alike(task: str) -> None:
    net, config = network(task)
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.running_var, 0.5, 2.0)  # pyright: ignore[reportArgumentType]
            torch.nn.init.normal_(part.running_mean)  # pyright: ignore[reportArgumentType]
            torch.nn.init.normal_(part.bias)
    whole = folded(net)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in whole.modules())
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in net.modules())
    assert folded(net) is whole
    ink, widths = torch.rand(2, 1, config.line.height, 80), torch.tensor([80, 50])
    with torch.no_grad():
        torch.testing.assert_close(whole(ink, widths)[0], net(ink, widths)[0], atol=1e-4, rtol=1e-4)
        for columns in (80, 128):  # weights are ordered for the first of them
            even = torch.rand(2, 1, config.line.height, columns)
            torch.testing.assert_close(whole(even)[0], net(even)[0], atol=1e-4, rtol=1e-4)
        again = deepcopy(whole)
        torch.testing.assert_close(again(ink, widths)[0], net(ink, widths)[0], atol=1e-4, rtol=1e-4)
    plain = torch.nn.Linear(2, 3)
    assert folded(plain) is plain


@pytest.mark.parametrize("unit", ["lstm", "gru", "min_gru", "hgrn"])
def test_any_unit_is_a_sequence_stage(unit: str) -> None:
    net, _ = network("lines", unit=unit)
    assert net(torch.rand(2, 1, 64, 64), torch.tensor([64, 40]))[0].shape == (16, 2, 9)


def test_the_shortcut_head_is_there_in_training_only() -> None:
    net, _ = network("lines")
    ink = torch.rand(1, 1, 64, 64)
    assert net(ink)[1] is None
    assert net.train()(ink)[1].shape == (16, 1, 9)  # pyright: ignore


def test_padding_stays_zero_through_both_directions() -> None:
    stage = BothWays("lstm", 5, 4, 2, 0.0).eval()
    x = torch.rand(2, 7, 5)
    y = stage(x, torch.tensor([7, 3]))
    assert (y[1, 3:] == 0).all()
    torch.testing.assert_close(y[1:, :3], stage(x[1:, :3], None), atol=1e-6, rtol=1e-5)


def test_hidden_spans_are_zero_and_few() -> None:
    x = torch.ones(200, 80, 3)
    hidden = hide_spans(x, None, 0.15, 8, torch.Generator().manual_seed(0))[..., 0] == 0
    share = hidden.float().mean(1)
    assert share.max() <= 0.3
    assert 0.3 < (share > 0).float().mean() < 0.7


def test_log_probabilities_come_in_the_order_of_the_lines() -> None:
    import numpy as np

    net, config = network("lines")
    lines = [np.full((config.line.height, w), 30 * i, np.uint8) for i, w in enumerate((160, 48, 96), 1)]
    found = log_probabilities(net, lines, budget=200)
    assert [len(part) for part in found] == [40, 12, 24]
    for line, part in zip(lines, found, strict=True):
        np.testing.assert_allclose(log_probabilities(net, [line])[0], part, atol=1e-4)
        np.testing.assert_allclose(np.exp(part).sum(1), 1, atol=1e-5)
