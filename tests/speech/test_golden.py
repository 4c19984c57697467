"""Every golden entry of a finished reference: published names load, activations and outputs agree."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from speech.layouts import UNUSED, build, load_published
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
    "DCCRN": "frcrn",
    "MossFormer": "mossformer2-ss",
    "MossFormer_MaskNet": "mossformer2-se-mask",
    "FLASH_ShareA_FFConvM": "mossformer2-layer",
    "front end of MossFormer2_SE_48K": "mossformer2-se",
}
"""Class of the reference -> our layout; entries of other classes are not collected yet."""


def layout_of(entry: Entry) -> str | None:
    fitting = [name for name in LAYOUTS if re.match(re.escape(name) + r"\b(?!_)", entry.key)]
    return LAYOUTS[max(fitting, key=len)] if fitting else None


ENTRIES = [entry for entry in entries("speech", "speech") if layout_of(entry)]


def close(ours: Tensor, wanted: Tensor, what: str) -> None:
    assert ours.shape == wanted.shape, f"{what}: shape {tuple(ours.shape)}, expected {tuple(wanted.shape)}"
    error = (ours - wanted).abs().max() / wanted.abs().max().clamp(min=1e-9)
    assert error <= TOLERANCE, f"{what}: off by {error:.3g} of the peak"


def watch(
    network: nn.Module, names: list[str], take: Callable[[Any], Any] = lambda out: out[0]
) -> dict[str, Any]:
    """The first outputs of the named submodules, once the network has run; `take`: what of several."""
    modules, seen = dict(network.named_modules()), {}

    def note(name: str, out: Any) -> None:
        seen.setdefault(name, take(out) if isinstance(out, tuple) else out)

    for name in names:
        if name in modules:
            modules[name].register_forward_hook(lambda _, __, out, name=name: note(name, out))
    return seen


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_golden(entry: Entry) -> None:
    layout = layout_of(entry)
    if layout == "mossformer2-se":  # the front end alone has no weights
        network = build(layout, {"out_channels": 8, "num_blocks": 1})
    else:
        network = build(layout, entry.args).eval()
        load_published(network, entry.weights(), UNUSED.get(layout, ()))
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
    mask, _ = network.mask(spectra.real, spectra.imag, network.initial_state(spectra))
    close(mask, inside["mask"], "a.mask")
    state, frames = network.initial_state(spectra), []
    for frame in spectra.unbind(1):
        y, state = network.step(torch.cat([frame.real, frame.imag], -1), state)
        frames.append(torch.complex(*y.view(len(y), 2, -1).unbind(1)))
    close(torch.view_as_real(torch.stack(frames, 2)), outputs["spec"], "frame by frame")


def check_waves(network: nn.Module, entry: Entry) -> None:
    """A wave in, waves out, and the named activations on the way; `a.mask` is that of the masker.

    Once as the layers are defined, and once where no gradient is wanted: then compiled layers run, which keep
    fewer parts apart.
    """
    inside, outputs = entry.group("inside"), entry.outputs()
    masker = next((n for n in ("masker", "mask_generator", "masknet", "mask_net") if hasattr(network, n)), "")
    places = {name: masker if name == "mask" else place_of(network, name) for name in inside}
    for defined in (True, False):
        seen = watch(network, list(places.values()))
        with torch.set_grad_enabled(defined):
            found = network(entry.inputs()["in"])
        for name, wanted in outputs.items():
            ours = found if name == "out" else found[:, int(name)]
            last = ours.shape != wanted.shape  # speechbrain puts the talkers last
            close(ours.transpose(1, 2) if last else ours, wanted, f"out.{name}")
        for name, wanted in inside.items():
            if defined or places[name] in seen:
                close(seen[places[name]].reshape(wanted.shape), wanted, f"a.{name}")


def place_of(network: nn.Module, name: str) -> str:
    """The module that a shortened name means: the outermost one whose path ends in it."""
    found = [path for path, _ in network.named_modules() if f".{path}".endswith(f".{name}")]
    inner = [path for path in found if path.partition(".")[0] not in ("encoder", "enc", "decoder", "dec")]
    return min(inner if name not in found and inner else found, key=len)


@torch.no_grad()
def check_front_end(network: Any, entry: Entry) -> None:
    arrays = {name: torch.from_numpy(array) for name, array in entry.arrays().items()}
    wave = arrays["in"]
    close(network.fbank(wave[0]), arrays["fbank"], "fbank")
    close(network.features(wave[0]), arrays["features"], "features")
    spectra = network.spectra(wave)
    close(torch.view_as_real(spectra[0]), arrays["stft"], "stft")
    close(network.waves(spectra * arrays["mask"], wave.shape[-1])[0], arrays["out"], "out")


def check_frcrn(network: Any, entry: Entry) -> None:
    wave, outputs, inside = entry.inputs()["in"], entry.outputs(), entry.group("inside")

    def stacked(parts: Tensor) -> Tensor:  # real rows, then imaginary ones
        return torch.cat([parts[..., 0], parts[..., 1]], 1)

    for defined in (True, False):  # as defined, and with compiled layers
        seen = watch(network, list(inside), lambda parts: torch.stack(parts, -1).detach())
        with torch.set_grad_enabled(defined):
            close(network(wave), outputs["wav"], "out.wav")
        for name, found in seen.items():
            close(found, inside[name], f"a.{name}")
        spectra = network.spectra(wave)
        close(stacked(torch.view_as_real(spectra)), inside["stft"], "a.stft")
        with torch.set_grad_enabled(defined):
            mask = network.mask(spectra)
        close(stacked(mask), outputs["mask"], "out.mask")
        clean = spectra * torch.view_as_complex(mask.contiguous())
        close(stacked(torch.view_as_real(clean)), outputs["spec"], "out.spec")


CHECKS = {"gtcrn": check_gtcrn} | dict.fromkeys(
    (
        "asteroid-conv-tasnet",
        "torchaudio-conv-tasnet",
        "asteroid-dprnn",
        "espnet-tf-gridnet-v2",
        "speechbrain-sepformer",
        "mossformer2-ss",
        "mossformer2-se-mask",
        "mossformer2-layer",
    ),
    check_waves,
)
CHECKS["frcrn"] = check_frcrn
CHECKS["mossformer2-se"] = check_front_end
