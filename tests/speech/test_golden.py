"""Every golden entry of a finished reference: published names load, activations and outputs agree."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from speech.layouts import build, load_published
from tests.golden import Entry, entries

TOLERANCE = 1e-5
"""Of the peak of each tensor."""
LAYOUTS = {
    "GTCRN": "gtcrn",
    "asteroid.models.ConvTasNet": "asteroid-conv-tasnet",
    "torchaudio.models.ConvTasNet": "torchaudio-conv-tasnet",
    "asteroid.models.DPRNNTasNet": "asteroid-dprnn",
    "TFGridNetV2": "espnet-tf-gridnet-v2",
    "SepFormer": "speechbrain-sepformer",
}
"""Class of the reference -> our layout; entries of other classes are not collected yet."""


def layout_of(entry: Entry) -> str | None:
    name = re.match(r"[\w.]+", entry.key)
    return LAYOUTS.get(name.group()) if name else None


ENTRIES = [entry for entry in entries("speech", "speech") if layout_of(entry)]


def close(ours: Tensor, wanted: Tensor, what: str) -> None:
    assert ours.shape == wanted.shape, f"{what}: shape {tuple(ours.shape)}, expected {tuple(wanted.shape)}"
    error = (ours - wanted).abs().max() / wanted.abs().max().clamp(min=1e-9)
    assert error <= TOLERANCE, f"{what}: off by {error:.3g} of the peak"


def watch(network: nn.Module, names: list[str]) -> dict[str, Any]:
    """The first outputs of the named submodules, once the network has run."""
    modules, seen = dict(network.named_modules()), {}

    def note(name: str, out: Any) -> None:
        seen.setdefault(name, out[0] if isinstance(out, tuple) else out)

    for name in names:
        if name in modules:
            modules[name].register_forward_hook(lambda _, __, out, name=name: note(name, out))
    return seen


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_golden(entry: Entry) -> None:
    layout = layout_of(entry)
    network = build(layout, entry.args).eval()
    load_published(network, entry.weights())
    CHECKS[layout](network, entry)


@torch.no_grad()
def check_gtcrn(network: Any, entry: Entry) -> None:
    wave = entry.inputs()["in"]
    inside, outputs = entry.group("inside"), entry.outputs()
    seen = watch(network, list(inside))
    close(network(wave), outputs["wav"], "out.wav")
    for name, found in seen.items():
        close(found, inside[name], f"a.{name}")
    spectra = torch.view_as_complex(inside["spec"].contiguous()).transpose(1, 2)
    clean, _ = network.filter(spectra)
    close(torch.view_as_real(clean.transpose(1, 2).contiguous()), outputs["spec"], "out.spec")
    mask, _ = network.mask(spectra, network.initial_state(spectra))
    close(mask, inside["mask"], "a.mask")
    state, frames = network.initial_state(spectra), []
    for frame in spectra.unbind(1):
        y, state = network.step(torch.cat([frame.real, frame.imag], -1), state)
        frames.append(torch.complex(*y.view(len(y), 2, -1).unbind(1)))
    close(torch.view_as_real(torch.stack(frames, 2)), outputs["spec"], "frame by frame")


@torch.no_grad()
def check_waves(network: nn.Module, entry: Entry) -> None:
    """A wave in, waves out, and the named activations on the way; `a.mask` is that of the masker."""
    inside = entry.group("inside")
    masker = next((n for n in ("masker", "mask_generator", "masknet", "mask_net") if hasattr(network, n)), "")
    seen = watch(network, [*inside, *(f"{masker}.{name}" for name in inside), masker])
    found = network(entry.inputs()["in"])
    outputs = entry.outputs()
    for name, wanted in outputs.items():
        ours = found if name == "out" else found[:, int(name)]
        last = ours.shape != wanted.shape  # speechbrain puts the talkers last
        close(ours.transpose(1, 2) if last else ours, wanted, f"out.{name}")
    for name, wanted in inside.items():
        if name == "mask":
            close(seen[masker].reshape(wanted.shape), wanted, "a.mask")
        elif (key := name if name in seen else f"{masker}.{name}") in seen:
            close(seen[key].reshape(wanted.shape), wanted, f"a.{name}")


CHECKS = {"gtcrn": check_gtcrn} | dict.fromkeys(
    (
        "asteroid-conv-tasnet",
        "torchaudio-conv-tasnet",
        "asteroid-dprnn",
        "espnet-tf-gridnet-v2",
        "speechbrain-sepformer",
    ),
    check_waves,
)
