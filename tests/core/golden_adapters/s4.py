"""S4, S4D and HiPPO of state-spaces/s4. Its sequences are (B, H, L)."""

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from core.units.diagonal import hippo
from core.units.diagonal.s4 import S4, dplr_kernel, shortened
from core.units.diagonal.s4d import S4D
from tests.golden import Entry, Leaves, reference


@reference("S4D")
def s4d(entry: Entry, leaves: Leaves) -> Leaves:
    u = leaves["in.u"]
    weights = {
        "log_dt": leaves["param.kernel.log_dt"],
        "log_A_real": leaves["param.kernel.log_A_real"],
        "A_imag": leaves["param.kernel.A_imag"],
        "C": leaves["param.kernel.C"],
        "D": leaves["param.D"],
        "out.weight": leaves["param.output_linear.0.weight"].squeeze(-1),
        "out.bias": leaves["param.output_linear.0.bias"],
    }
    unit = S4D(u.shape[1], len(weights["out.bias"]) // 2, state_size=2 * weights["C"].shape[1]).to(u.dtype)
    outputs = {"out.y": in_every_mode(unit, weights, u)}
    if "out.kernel" in entry.about["tensors"]:
        outputs["out.kernel"] = functional_call(Impulse(unit), prefixed(weights), (u.shape[2],))
    return outputs


@reference("S4Block")
def s4_block(entry: Entry, leaves: Leaves) -> Leaves:
    """dt = exp(inv_dt), A = -exp(A_real) - i A_imag; leading axes are 1 wide."""
    u = leaves["in.u"]
    u = u if entry.args.get("transposed", True) else u.transpose(1, 2)
    width = u.shape[1]
    kernel = {
        name.removeprefix("param.layer.kernel."): leaf
        for name, leaf in leaves.items()
        if name.startswith("param.layer.kernel.")
    }

    def channels(leaf: Tensor) -> Tensor:
        """One system a channel; the reference may let several channels share one."""
        return leaf.repeat(width // len(leaf), *[1] * (leaf.ndim - 1))

    weights = {
        "log_dt": channels(kernel["inv_dt"])[:, 0],
        "log_A_real": channels(kernel["A_real"]),
        "A_imag": -channels(kernel["A_imag"]),
        "D": leaves["param.layer.D"][0],
        "out.weight": leaves["param.output_linear.0.weight"].flatten(1),
        "out.bias": leaves["param.output_linear.0.bias"],
    }
    b, c = channels(kernel["B"][0]), channels(kernel["C"][0])
    size, out = 2 * c.shape[1], len(weights["out.bias"]) // 2
    if "P" in kernel:
        return {"out.y": dplr_block(entry, kernel, weights, u, b, c, channels(kernel["P"][0]))}
    weights["C"] = torch.view_as_real(torch.view_as_complex(b) * torch.view_as_complex(c))
    y = in_every_mode(S4D(width, out, state_size=size).to(u.dtype), weights, u)
    return {"out.y": y if entry.args.get("transposed", True) else y.transpose(1, 2)}


def dplr_block(
    entry: Entry, kernel: Leaves, weights: Leaves, u: Tensor, b: Tensor, c: Tensor, p: Tensor
) -> Tensor:
    """The block through its kernel, with C~ as the leaf of the gradients, as the reference has it."""
    time = u.shape[2]
    length = min(time, entry.args.get("l_max") or time)
    dt = weights["log_dt"].exp()[:, None]
    poles = torch.complex(-weights["log_A_real"].exp(), weights["A_imag"])
    p, b, c = (torch.view_as_complex(part) for part in (p, b, c))
    if not kernel["l_kernel"].item():
        c = c + (shortened(dt, poles, p, c, length) - c).detach()
    taps = dplr_kernel(dt, poles, p, b, c, length)
    unit = S4(u.shape[1], len(weights["out.bias"]) // 2, state_size=2 * c.shape[1]).to(u.dtype)
    if not kernel["l_kernel"].item() and length == time:
        raw = {"P": p, "B": b, "C": torch.view_as_complex(kernel["C"][0])}
        full = weights | {name: torch.view_as_real(part) for name, part in raw.items()}
        check_modes(unit, full, u, taps)
    x = u.transpose(1, 2)
    v = torch.nn.functional.pad(x, (0, 0, time, 0)).unfold(1, length, 1)[:, 1 + time - length :]
    v = (v[:, -time:] * taps.flip(1)).sum(-1)
    return functional_call(Readout(unit), prefixed(weights), (v, x)).transpose(1, 2)


def check_modes(unit: S4, weights: Leaves, u: Tensor, taps: Tensor) -> None:
    """The unit itself, which holds C, gives the same kernel."""
    ours = functional_call(Impulse(unit), prefixed(weights), (taps.shape[1],))
    torch.testing.assert_close(ours, taps, rtol=1e-4, atol=1e-5)


class Impulse(torch.nn.Module):
    """Calls `kernel` of a unit, for `functional_call`."""

    def __init__(self, unit: S4D) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, time: int) -> Tensor:
        return self.unit.kernel(time)


class Readout(Impulse):
    """Calls `readout` of a unit, for `functional_call`."""

    def forward(self, v: Tensor, x: Tensor) -> Tensor:
        return self.unit.readout(v, x)


def prefixed(weights: Leaves) -> Leaves:
    return {f"unit.{name}": weight for name, weight in weights.items()}


def in_every_mode(unit: S4D, weights: Leaves, u: Tensor) -> Tensor:
    x = u.transpose(1, 2)
    outputs = [functional_call(unit, weights, (x, None, mode))[0].transpose(1, 2) for mode in unit.modes]
    return torch.stack(outputs).mean(0)


@reference("transition(measure,N)")
def transition(entry: Entry, leaves: Leaves) -> Leaves:
    outputs = {}
    for name in entry.about["tensors"]:
        measure, size, which = name.removeprefix("out.").split("_")
        outputs[name] = hippo.transition(measure, int(size))["AB".index(which)]
    return outputs


@reference("nplr(")
def nplr(entry: Entry, leaves: Leaves) -> Leaves:
    """Quantities without phase; poles at zero (fout) share a null space, where rows have no meaning."""
    expected = entry.arrays()
    outputs = {}
    for name in entry.about["tensors"]:
        measure, size, which = name.removeprefix("out.").split("_")
        poles, p, b = (part.numpy() for part in hippo.nplr(measure, int(size))[:3])
        found = {
            "lambda": np.stack([poles.real, poles.imag], -1),
            "absP": np.abs(p)[None],
            "absB": np.abs(b),
            "PconjB": np.stack([(p.conj() * b).real, (p.conj() * b).imag], -1)[None],
        }[which]
        null = np.abs(poles) < 1e-6
        if null.any():
            axis = 1 if found.ndim > 1 and found.shape[0] == 1 else 0
            found = np.where(null.reshape(-1, *[1] * (found.ndim - axis - 1)), expected[name], found)
        outputs[name] = torch.from_numpy(found)
    return outputs
