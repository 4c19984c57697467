"""Leakage in turns of one talker is hushed; what both say stays."""

import numpy as np
import torch

from speech.turns import MEMORY_S, hushed

RATE = 16000


def test_what_lies_far_below_for_a_while_is_silence_and_the_rest_stays() -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, 4 * RATE)).astype(np.float32)
    time = np.arange(noise.shape[1]) / RATE
    levels = np.stack([np.where(time < 3, 1.0, 0.002), np.where(time < 1, 0.002, 1.0)])  # alone, both, alone
    tracks = torch.from_numpy((levels * noise).astype(np.float32))
    found = hushed(tracks, RATE)
    margin = int((MEMORY_S + 0.05) * RATE)
    assert float(found[1, : RATE - margin].abs().max()) == 0.0
    assert float(found[0, 3 * RATE + margin :].abs().max()) == 0.0
    torch.testing.assert_close(found[:, RATE : 3 * RATE], tracks[:, RATE : 3 * RATE])
    torch.testing.assert_close(found[0, :RATE], tracks[0, :RATE])
    steps = (found - tracks)[1, :RATE].diff().abs().max()
    assert float(steps) < 0.15  # it falls and rises within some milliseconds


def test_short_and_silent_pieces_pass() -> None:
    short = torch.randn(2, 500)
    assert hushed(short, RATE) is short
    assert not bool(hushed(torch.zeros(2, RATE), RATE).any())
    quiet = 1e-5 * torch.randn(2, RATE)
    torch.testing.assert_close(hushed(quiet, RATE), quiet)
