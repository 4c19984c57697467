"""Mamba and Mamba-2 mixers of transformers: whole, left padded, and through their cache."""

import inspect
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from core.layouts import transformers_mamba
from core.units.diagonal.mamba import Mamba
from core.units.matrix.mamba2 import Mamba2
from tests.golden import Entry, Leaves, reference


@reference("transformers.models.mamba.MambaMixer", "transformers.models.mamba2.Mamba2Mixer")
def mixer(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    build: Any = transformers_mamba.mamba2 if "Mamba2" in entry.key else transformers_mamba.mamba
    known = inspect.signature(build).parameters
    x = leaves["in.x"]
    settings = {name: entry.args[name] for name in known if name in entry.args}
    settings.setdefault("use_conv_bias", "param.conv1d.bias" in leaves)
    unit: Mamba | Mamba2 = build(**settings).to(x)
    weights = transformers_mamba.from_published(
        {name.removeprefix("param."): part for name, part in leaves.items() if name.startswith("param.")},
        unit,
    )
    if "in.mask" in leaves:
        return {"out.y": functional_call(Masked(unit), prefixed(weights), (x, leaves["in.mask"]))}
    prefill = entry.args.get("prefill")
    if prefill is None:
        return {"out.y": functional_call(unit, weights, (x,))[0]}
    head, state = functional_call(unit, weights, (x[:, :prefill],))
    # hand the state over in the published layout, and take single steps from there
    after = transformers_mamba.to_published_cache(unit, state)
    state = transformers_mamba.from_published_cache(unit, *after)
    steps, state = functional_call(unit, weights, (x[:, prefill:], state, "step"))
    end = transformers_mamba.to_published_cache(unit, state)
    return {
        "out.y_prefill": head,
        "out.conv_state_prefill": after[0],
        "out.recurrent_state_prefill": after[1],
        "out.y_steps": steps,
        "out.conv_state_end": end[0],
        "out.recurrent_state_end": end[1],
    }


class Masked(nn.Module):
    """The mixer as published models run it on left-padded rows."""

    def __init__(self, unit: Mamba | Mamba2) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.unit.mix(x, self.unit.initial_state(x), mask=mask)[0]


def prefixed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"unit.{name}": weight for name, weight in weights.items()}
