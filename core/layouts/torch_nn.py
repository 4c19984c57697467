"""State dicts of `torch.nn.RNN`, `nn.LSTM` and `nn.GRU`, both ways, for a stack or a single unit.

    weight_ih_l1_reverse  <->  units.3.weight_ih        layer 1, backward direction of two

Gate orders and shapes are the same on both sides, so a tensor only changes its name.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from core.blocks.stack import Stack
from core.errors import WeightsError
from core.units.gated.gru import GRU
from core.units.gated.lstm import GATES, LSTM
from core.units.gated.rnn import RNN

SHARED = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")


def torch_nn_names(model: Stack | nn.Module) -> dict[str, str]:
    """Our parameter names -> those of torch.nn, in torch's order.

    Raises:
        WeightsError: a unit or an option that torch.nn does not have.
    """
    units, directions, prefix = [model], 1, False
    if isinstance(model, Stack):
        units, directions, prefix = list(model.units), model.directions, True
        if model.residual or (directions == 2 and model.merge != "concat"):
            raise WeightsError("torch.nn has no residuals and only concatenates directions")
    names = {}
    for index, unit in enumerate(units):
        check_kind(unit)
        layer, backward = divmod(index, directions)
        suffix = f"_l{layer}" + ("_reverse" if backward else "")
        own = dict(unit.named_parameters())
        for name in SHARED:
            if name in own:
                names[f"units.{index}.{name}" if prefix else name] = name + suffix
    return names


def check_kind(unit: nn.Module) -> None:
    """Refuse what torch.nn cannot express.

    Raises:
        WeightsError: says what.
    """
    what = None
    if isinstance(unit, LSTM):
        plain = unit.gates == GATES and unit.squash_input and unit.squash_output
        if not plain or unit.weight_ph is not None or unit.weight_gg is not None:
            what = "LSTM with peepholes, or of another variant"
    elif isinstance(unit, GRU):
        if (unit.reset, unit.update) != ("after", "keep"):
            what = "GRU that resets before the product, or whose update gate writes"
    elif not isinstance(unit, RNN):
        what = type(unit).__name__
    if what:
        raise WeightsError(f"torch.nn has no {what}")


def torch_nn_state_dict(model: Stack | nn.Module) -> dict[str, Tensor]:
    """The parameters under torch.nn's names; they share memory with the model's, as `state_dict` does.

    Raises:
        WeightsError: torch.nn does not have this unit.
    """
    own = model.state_dict()
    return {theirs: own[ours] for ours, theirs in torch_nn_names(model).items()}


def torch_nn_layer(units: Iterable[Any]) -> nn.LSTM | nn.GRU:
    """A layer of torch.nn, batch first, with the weights of one unit, or of two that read both ways.

    Raises:
        WeightsError: torch.nn has no such layer.
    """
    first, *back = units
    kind = {LSTM: nn.LSTM, GRU: nn.GRU}.get(type(first))
    if kind is None or first.bias_ih is None or getattr(first, "projection", None):
        name = type(first).__name__
        raise WeightsError(f"an LSTM or GRU with biases and no projection is a layer, not this {name}")
    weights = torch_nn_state_dict(first)
    for unit in back:
        weights |= {f"{name}_reverse": value for name, value in torch_nn_state_dict(unit).items()}
    layer = kind(first.input_size, first.hidden_size, batch_first=True, bidirectional=bool(back))
    layer.load_state_dict(weights)
    return layer


def load_torch_nn(model: Stack | nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Copy a state dict of torch.nn into a stack or unit of the same sizes.

    Raises:
        WeightsError: names every missing and unexpected key and every wrong shape; nothing is copied then.
    """
    names, own = torch_nn_names(model), model.state_dict()
    wanted = {theirs: own[ours] for ours, theirs in names.items()}
    problems = [f"{name} is missing" for name in wanted if name not in state_dict]
    problems += [f"{name} is not expected" for name in state_dict if name not in wanted]
    for name, tensor in wanted.items():
        given = state_dict.get(name)
        if given is not None and given.shape != tensor.shape:
            problems.append(f"{name} is {tuple(given.shape)}, expected {tuple(tensor.shape)}")
    if problems:
        raise WeightsError("the torch.nn state dict does not fit: " + "; ".join(problems))
    model.load_state_dict({ours: state_dict[theirs] for ours, theirs in names.items()})
