"""Published networks: every key loads, every number is the reference's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.weights import load_into
from tests.golden import Entry, entries
from vision.ocr.models.htr import HTRNet
from vision.ocr.models.master import Decoder, Encoder, MultiAspectGCAttention
from vision.ocr.models.pylaia import PyLaia
from vision.ocr.models.scene import Model
from vision.ocr.models.tps import GridGenerator, rectified


def filled(entry: Entry, module: nn.Module) -> nn.Module:
    load_into(module, entry.weights())
    return module.eval()


def htrnet(entry: Entry, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    logits, side = filled(entry, HTRNet(**entry.args))(inputs["image"])
    return {"logits": logits} | ({} if side is None else {"logits_shortcut": side})


def scene(entry: Entry, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    net = filled(entry, Model(**entry.args))
    assert isinstance(net, Model)
    image = inputs["image"]
    found = {"visual_feature": net.visual(image)}
    if "text" not in inputs:
        return found | {"logits": net(image)}
    greedy = net(image)
    return found | {
        "logits_teacher": net(image, inputs["text"][:, :-1]),
        "logits_greedy": greedy,
        "greedy_ids": greedy.argmax(-1),
    }


def pylaia(entry: Entry, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    net = filled(entry, PyLaia(**entry.args))
    found: dict[str, Tensor] = {}
    padded, lengths = net(inputs["image"], inputs["sizes_hw"])
    found["logits_padded_batch"], found["lengths"] = padded, lengths
    if "logits_whole_rectangle" not in entry.outputs():
        return found
    height, width = inputs["image"].shape[2:]
    whole = torch.tensor([[height, width]] * len(inputs["image"]))
    found["logits_whole_rectangle"] = net(inputs["image"], whole)[0]
    return found


def gc(entry: Entry, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"y": filled(entry, MultiAspectGCAttention(**entry.args))(inputs["x"])}


def encoder(entry: Entry, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"y": filled(entry, Encoder(**entry.args))(inputs["x"])}


def decoder(entry: Entry, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"y": filled(entry, Decoder(**entry.args))(inputs["target_ids"], inputs["memory"])}


def tps(entry: Entry, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    built = GridGenerator(**entry.args)
    for name, stored in entry.weights().items():  # what we compute ourselves is what was published
        torch.testing.assert_close(dict(built.named_buffers())[name], stored, atol=1e-3, rtol=1e-4)
    grid = filled(entry, built)(inputs["control_points"])
    return {"grid": grid, "rectified": rectified(inputs["image"], grid)}


NETWORKS: dict[str, Callable[[Entry, dict[str, Tensor]], dict[str, Tensor]]] = {
    "models.HTRNet": htrnet,
    "model.Model": scene,
    "laia.models.htr.LaiaCRNN": pylaia,
    "MultiAspectGCAttention": gc,
    "Encoder": encoder,
    "Decoder": decoder,
    "modules.transformation.GridGenerator": tps,
}
OURS = [entry for entry in entries("ocr") if entry.key.split(" ")[0] in NETWORKS]


@pytest.mark.parametrize("entry", OURS, ids=str)
def test_published_network_gives_its_numbers(entry: Entry) -> None:
    with torch.no_grad():
        found = NETWORKS[entry.key.split(" ")[0]](entry, entry.inputs())
    wanted: dict[str, Any] = entry.outputs()
    assert found.keys() == wanted.keys()
    relative = float(entry.about.get("suggested_rtol", 0.0))
    for name, tensor in wanted.items():
        allowed = entry.tolerance(1e-4, f"output.{name}")
        torch.testing.assert_close(
            found[name].to(tensor.dtype),
            tensor,
            atol=allowed,
            rtol=relative,
            msg=lambda m, n=name: f"{n}: {m}",
        )
