"""The bare HGRN recurrence of flash-linear-attention: natural-log decays, gated inputs."""

from core.kernels.linear_scan import linear_scan
from tests.golden import Entry, Leaves, reference


@reference("naive_recurrent_hgrn")
def hgrn(entry: Entry, leaves: Leaves) -> Leaves:
    h = linear_scan(leaves["in.g"].exp(), leaves["in.x"], leaves.get("in.h0"))
    outputs = {"out.o": h, "out.state": h[:, -1]}
    return {name: value for name, value in outputs.items() if name in entry.about["tensors"]}
