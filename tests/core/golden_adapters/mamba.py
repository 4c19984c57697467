"""mamba_ssm: the scan in its forms, one step, the minimal SSD and the Mamba block."""

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from core.kernels.matrix_scan import decay_scan
from core.kernels.selective_scan import selective_scan, selective_step
from core.layouts import transformers_mamba
from tests.golden import Entry, Leaves, reference


def present(entry: Entry, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in outputs.items() if name in entry.about["tensors"]}


def time_second(part: Tensor) -> Tensor:
    """(B, .., L) -> (B, L, ..)."""
    return part.movedim(-1, 1)


@reference("selective_scan_ref")
def scan(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    A, B, C = (leaves[f"in.{name}"] for name in ("A", "B", "C"))
    constant = [part.ndim == 2 or (part.ndim == 3 and part.shape[-1] == 2 and A.ndim == 3) for part in (B, C)]
    if A.ndim == 3:  # (D, N, 2); B and C have real and imaginary parts side by side on the last axis
        A = torch.view_as_complex(A)
        B, C = (
            torch.view_as_complex(part.contiguous() if fixed else part.unflatten(-1, (-1, 2)).contiguous())
            for part, fixed in zip((B, C), constant, strict=True)
        )
    B, C = (
        part if fixed else time_second(part) for part, fixed in zip((B, C), constant, strict=True)
    )  # (B, L, N) or (B, L, G, N)
    delta = leaves["in.delta"]
    if "in.delta_bias" in leaves:
        delta = delta + leaves["in.delta_bias"].unsqueeze(-1)
    z = leaves.get("in.z")
    y, state = selective_scan(
        time_second(leaves["in.u"]),
        time_second(delta),
        A,
        B,
        C,
        leaves.get("in.D"),
        None if z is None else time_second(z),
    )
    return present(entry, {"out.y": y.transpose(1, 2), "out.state": state})


@reference("selective_state_update_ref")
def update(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    u, delta = leaves["in.x"], leaves["in.dt"] + leaves.get("in.dt_bias", torch.zeros(()))
    A, B, C, before = (leaves[f"in.{name}"] for name in ("A", "B", "C", "state"))
    y, state = selective_step(u, delta, A, B, C, before)
    y = y + leaves["in.D"] * u if "in.D" in leaves else y
    y = y * functional.silu(leaves["in.z"]) if "in.z" in leaves else y
    return {"out.y": y, "out.state": state}


@reference("ssd_minimal_discrete")
def minimal(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    start = leaves["in.init"].squeeze(1).transpose(2, 3) if "in.init" in leaves else None
    y, state = decay_scan(leaves["in.C"], leaves["in.B"], leaves["in.X"], leaves["in.A"], start, chunk=4)
    return present(entry, {"out.y": y, "out.state": state.transpose(2, 3)})


@reference("mamba_ssm.modules.mamba_simple.Mamba")
def block(entry: Entry, leaves: Leaves) -> dict[str, Tensor]:
    x = leaves["in.x"]
    published = {
        name.removeprefix("param."): part for name, part in leaves.items() if name.startswith("param.")
    }
    unit = transformers_mamba.mamba(
        entry.args["d_model"],
        state_size=published["A_log"].shape[1],
        time_step_rank=published["dt_proj.weight"].shape[1],
        conv_kernel=published["conv1d.weight"].shape[-1],
        expand=published["D"].shape[0] // entry.args["d_model"],
        use_bias="in_proj.bias" in published,
        use_conv_bias="conv1d.bias" in published,
    ).to(x)
    y, _ = functional_call(unit, transformers_mamba.from_published(published, unit), (x,))
    return {"out.y": y}
