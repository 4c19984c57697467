"""Published checkpoints: which tensors they hold, and how their names become ours.

    network = build("gtcrn", {})                     # by the reference's own constructor words
    load_published(network, tensors)                 # every key accounted for, or it is named

Names are kept as published, except that a recurrent layer of torch.nn is a unit of core here:
`rnn.weight_ih_l0_reverse` is `rnn.units.1.weight_ih`.
"""

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from core.door import safetensors
from core.errors import ConfigError, WeightsError
from core.fitting import check_finite
from core.weights import Card, load_into, load_torch, network_for, save

LAYOUTS = {
    "gtcrn": "speech.models.gtcrn:GTCRN",
    "asteroid-conv-tasnet": "speech.models.conv_tasnet:ConvTasNet",
    "torchaudio-conv-tasnet": "speech.models.conv_tasnet:AudioConvTasNet",
    "espnet-tf-gridnet-v2": "speech.models.tf_gridnet:TFGridNet",
    "speechbrain-sepformer": "speech.models.sepformer:SepFormer",
    "frcrn": "speech.models.frcrn:FRCRN",
    "mossformer2-ss": "speech.models.mossformer2:MossFormer2",
    "mossformer2-se-mask": "speech.models.mossformer2:SpectrumMask",
    "mossformer2-se": "speech.models.mossformer2:MossFormer2SE",
    "mossformer2-layer": "speech.models.mossformer2:GatedAttention",
    "asteroid-dprnn": "speech.models.dprnn:DPRNN",
}
"""Layout -> its network; the words of its constructor are the reference's own."""
IGNORED = {
    "published_weights",
    "activation",
    "window",
    "norm",
    "skip_around_intra",
    "use_global_pos_enc",
}
"""Words of references that say nothing about tensors, or have one value only."""
RECURRENT = re.compile(r"^(.*?\.?)((?:weight|bias)_(?:ih|hh))_l0(_reverse)?$")
WRAPPING = re.compile(r"^(?:module\.)+")
TWICE = re.compile(r"\b(encoder|decoder|se_layer)s(_enc|_dec)?\.(\d)\b|\b(fsmn)(_enc|_dec)\.(\d)\b")
"""FRCRN registers its parts under two names: `encoders.0` is `encoder0`."""
UNUSED = {
    "frcrn": (r"i?stft\..*",),
}
"""What a layout stores and its network never uses."""


def our_name(name: str) -> str:
    """The name of a tensor in our networks."""
    name = WRAPPING.sub("", name)
    name = TWICE.sub(lambda m: (m[1] or m[4]) + (m[2] or m[5] or "") + (m[3] or m[6]), name)
    found = RECURRENT.match(name)
    if found is None:
        return name
    lead, weight, backward = found.groups()
    return f"{lead}units.{1 if backward else 0}.{weight}"


def published_name(name: str) -> str:
    """The name of one of our tensors in the published layout."""
    found = re.match(r"^(.*?\.?)units\.([01])\.((?:weight|bias)_(?:ih|hh))$", name)
    if found is None:
        return name
    lead, direction, weight = found.groups()
    return f"{lead}{weight}_l0{'_reverse' if direction == '1' else ''}"


def load_published(network: nn.Module, tensors: Mapping[str, Tensor], unused: tuple[str, ...] = ()) -> None:
    """Fill a network from published tensors.

    Args:
        unused: patterns of names that the layout has but its network never uses.

    Raises:
        WeightsError: names that are missing, unexpected or of another shape.
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = our_name(name)
        if any(re.fullmatch(pattern, name) for pattern in unused):
            continue
        if name in ours and not tensor.equal(ours[name]):
            raise WeightsError(f"{name}: given twice with different numbers.")
        ours[name] = tensor
    # counters of batches are no weights; a file may leave them out
    for name, buffer in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            ours.setdefault(name, buffer)
    load_into(network, ours)


def build(layout: str, options: Mapping[str, Any]) -> nn.Module:
    """The network of a layout with the words of the reference's constructor.

    Raises:
        ConfigError: no such layout.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"no layout {layout!r}; there is {', '.join(LAYOUTS)}.")
    module, name = LAYOUTS[layout].split(":")
    kind = getattr(import_module(module), name)
    known = signature(kind).parameters
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    odd = sorted(set(options) - set(known) - IGNORED)
    if odd and not free:
        raise ConfigError(f"{layout} has no setting {odd[0]!r}; there is {', '.join(known)}.")
    return kind(**{key: value for key, value in options.items() if free or key in known})


def read_tensors(files: Sequence[str | Path]) -> dict[str, Tensor]:
    """All tensors of one checkpoint, which may lie in several files. No code of a file is run.

    Raises:
        WeightsError: missing, damaged, or asks to run code.
    """
    found: dict[str, Tensor] = {}
    for file in map(Path, files):
        if file.suffix == ".safetensors":
            part, _ = safetensors(file)
        else:
            part = load_torch(file)
        if len(files) > 1:  # encoder.ckpt holds `conv1d.weight` of `encoder.conv1d.weight`
            lead = f"{file.stem}."
            part = {name if name.startswith(lead) else lead + name: tensor for name, tensor in part.items()}
        found |= part
    return found


def import_files(
    files: Sequence[str | Path],
    layout: str,
    options: Sequence[str],
    out: str | Path,
    *,
    rate: int | None = None,
    **card: Any,
) -> Card:
    """Published files -> a weights file of ours, with a card that says how to build its network.

    Args:
        options: words of the reference's constructor, as key=value.
        rate: samples per second that the weights were trained at, where the layout does not say; 16000.

    Raises:
        ConfigError: no such layout. WeightsError: tensors are missing, left over, or of other shapes.
    """
    from core.config import toml_value

    words = {key: toml_value(value) for key, _, value in (word.partition("=") for word in options)}
    tensors, unused = read_tensors(files), UNUSED.get(layout, ())
    check_finite(tensors, str(files[0]))
    network = network_for(
        files[0],
        tensors,
        lambda: build(layout, words),
        lambda made, given: load_published(made, given, unused),
    )
    about = {
        "task": "separate" if hasattr(network, "talkers") else "enhance",
        "unit": layout,
        "data": "as published",
        "terms": "as published",
        "settings": {"layout": layout, "options": words} | ({} if rate is None else {"rate": rate}),
        **card,
    }
    made = Card(**about)
    save(out, network, made)
    return made
