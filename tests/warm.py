"""Fill the compile cache beside the check of types: `python -m tests.warm [units] [pipelines]`.

Two workers that meet an empty cache compile the same loops twice, the process that serves the pages a third
time.
"""

import sys
import time
from importlib import import_module

import numpy as np
import torch

import core
from apps.trajectory.config import ModelConfig, WindowConfig
from apps.trajectory.fast import FastEngine
from apps.trajectory.models.predictor import Predictor
from core import registry
from core.battery import Subject
from core.battery.contract import (
    all_modes_agree_on_outputs_states_and_gradients,
    lengths_equal_the_unpadded_run,
    modes_agree_in_float32,
)
from core.kernels.selective_scan import selective_scan
from core.state import tensors
from core.steps.way import Way
from demos.places import places
from speech.predict import open_live_separation, open_stream
from tests.core.units.variants import VARIANTS


def compile_pipelines() -> None:
    """What each pipeline needs for its part of the report."""
    for module in places("section").values():
        import_module(module).section(0)


def compile_units() -> None:
    """Every unit of ours in both precisions, forward, backward, and step by step without gradients."""
    for name in registry.names():
        if registry.find(name).origin != "recurra":
            continue
        for dtype in (torch.float32, torch.float64):
            unit = core.build(name, 4).to(dtype)
            x = torch.randn(2, 5, 4, dtype=dtype, requires_grad=True)
            for mode in unit.modes:
                y, _ = unit(x, mode=mode)
                y.sum().backward()
            with torch.no_grad():
                _, state = unit(x)
                unit(x, state)
                if name in ("gru", "s4"):
                    core.streaming.open(unit).step(x[:1, 0].detach().numpy())
                    Way(unit, x[:, 0], state).taken([x[:, 0], *tensors(state)])


def compile_gated_loops() -> None:
    """Loops of gated units in the forms of every variant: from a state, over rows of lengths, one step."""
    for name in ("rnn", "gru", "lstm", "mgu", "lem", "slstm"):
        for options in ({}, *VARIANTS.get(name, [])):
            torch.manual_seed(0)
            subject = Subject(name, options)
            all_modes_agree_on_outputs_states_and_gradients(subject)
            modes_agree_in_float32(subject)
            lengths_equal_the_unpadded_run(subject)
        with torch.no_grad():
            core.build(name, 4).step(torch.randn(3, 4), None)


def compile_complex_scans() -> None:
    """The selective scan over complex states, which no unit of ours has."""
    for real, dtype in ((torch.float32, torch.complex64), (torch.float64, torch.complex128)):
        u, delta = torch.randn(2, 2, 5, 4, dtype=real)
        A, B, C = torch.randn(4, 3, dtype=dtype), *torch.randn(2, 2, 5, 3, dtype=dtype)
        leaves = [part.requires_grad_() for part in (u, delta, A, B, C)]
        selective_scan(*leaves)[0].sum().backward()


def compile_live_positions() -> None:
    """Predictions of live positions without torch, from windows and from a carried state."""
    past = np.arange(63.0).reshape(21, 3)
    for stateful in (False, True):
        network = Predictor(ModelConfig(hidden=16, stateful=stateful), WindowConfig(horizon=7)).eval()
        FastEngine(network).window(past)


def compile_live_voices() -> None:
    """Frames of live streams, at their own rate and at one that is changed."""
    for rate in (16_000, 48_000):
        for stream in (open_stream(None, rate), open_live_separation(rate=rate)):
            for _ in range(20):
                stream.feed(np.zeros(rate // 100, np.float32))


PARTS = {
    "units": (compile_units, compile_gated_loops, compile_complex_scans, compile_live_positions),
    "pipelines": (compile_pipelines, compile_live_voices),
}

if __name__ == "__main__":
    begun = time.process_time()
    torch.set_num_threads(1)
    for part in sys.argv[1:] or PARTS:
        for compile_them in PARTS[part]:
            compile_them()
        print(f"compiled loops of {part} are there ({time.process_time() - begun:.0f} CPU s)", flush=True)
