"""RecurrentGemma in transformers: recurrence, recurrent block, attention and decoder layer."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from core.blocks.griffin import RecurrentBlock
from core.layouts import recurrent_gemma
from core.units.contract import Unit
from core.units.diagonal.rg_lru import RGLRU
from tests.golden import Entry, Leaves, reference

MODULE = "transformers.models.recurrent_gemma.modeling_recurrent_gemma."


def settings(entry: Entry, build: Callable[..., Any]) -> dict[str, Any]:
    known = inspect.signature(build).parameters
    return {name: entry.args[name] for name in known if name in entry.args}


def weights_for(unit: nn.Module, source: Unit, leaves: Leaves) -> dict[str, Tensor]:
    """Our weights for `unit`, which holds `source` under the name `unit` or is it."""
    published = {
        name.removeprefix("param."): part for name, part in leaves.items() if name.startswith("param.")
    }
    ours = recurrent_gemma.from_published(published, source)
    return ours if unit is source else {f"unit.{name}": part for name, part in ours.items()}


@reference(MODULE + "RecurrentGemmaRglru")
def recurrence(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    x = leaves["in.x"]
    unit = RGLRU(x.shape[2], x.shape[2], heads=entry.args["num_attention_heads"]).to(x)
    scan = Scan(unit)
    start = leaves.get("in.h0", torch.zeros_like(x[:, 0]))
    y, h = functional_call(scan, weights_for(scan, unit, leaves), (x, start, positions(leaves) == 0))
    outputs = {"out.y": y, "out.h": h}
    return {name: value for name, value in outputs.items() if name in entry.about["tensors"]}


@reference(MODULE + "RecurrentGemmaRecurrentBlock")
def block(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    x = leaves["in.x"]
    unit = recurrent_gemma.recurrent_block(**settings(entry, recurrent_gemma.recurrent_block)).to(x)
    prefill = entry.args.get("prefill")
    if prefill is None:
        packed = Packed(unit)
        y = functional_call(packed, weights_for(packed, unit, leaves), (x, positions(leaves) == 0))
        return {"out.y": y}
    weights = weights_for(unit, unit, leaves)
    head, state = functional_call(unit, weights, (x[:, :prefill],))
    # hand the state over in the published layout, and take single steps from there
    after = recurrent_gemma.to_published_cache(state)
    state = recurrent_gemma.from_published_cache(*after)
    steps, state = functional_call(unit, weights, (x[:, prefill:], state, "step"))
    end = recurrent_gemma.to_published_cache(state)
    return {
        "out.y_prefill": head,
        "out.conv_state_prefill": after[0],
        "out.recurrent_state_prefill": after[1],
        "out.y_steps": steps,
        "out.conv_state_end": end[0],
        "out.recurrent_state_end": end[1],
    }


@reference(MODULE + "RecurrentGemmaAttention")
def attention(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    x = leaves["in.x"]
    unit = recurrent_gemma.attention(**settings(entry, recurrent_gemma.attention)).to(x)
    return {"out.y": functional_call(unit, weights_for(unit, unit, leaves), (x,))[0]}


@reference(MODULE + "RecurrentGemmaDecoderLayer")
def decoder_layer(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    x = leaves["in.x"]
    recurrent = "param.temporal_block.linear_x.weight" in leaves
    build = recurrent_gemma.recurrent_block if recurrent else recurrent_gemma.attention
    temporal = build(**settings(entry, build))
    unit = recurrent_gemma.decoder_layer(temporal, entry.args["intermediate_size"]).to(x)
    return {"out.y": functional_call(unit, weights_for(unit, unit, leaves), (x,))[0]}


def positions(leaves: Leaves) -> Tensor:
    x = leaves["in.x"]
    return leaves.get("in.position_ids", torch.arange(x.shape[1]).expand(x.shape[:2]))


class Scan(nn.Module):
    """The recurrence with documents that start inside a row."""

    def __init__(self, unit: RGLRU) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, x: Tensor, h: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
        y, (end, _) = self.unit.scan(x, h, fresh)
        return y, end


class Packed(nn.Module):
    """The published block at a reset: the recurrence starts afresh, the convolution reads on."""

    def __init__(self, unit: RecurrentBlock) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, x: Tensor, fresh: Tensor) -> Tensor:
        window, (h, _) = self.unit.initial_state(x)
        u, _ = self.unit.conv(self.unit.linear_x(x), window)
        return self.unit.finish(self.unit.rg_lru.scan(u, h, fresh)[0], x)
