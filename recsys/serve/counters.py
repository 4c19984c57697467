"""What a server counts of itself, for `/metrics`."""

from dataclasses import dataclass, field


@dataclass
class Counters:
    """What `/metrics` tells."""

    served: dict[str, int] = field(default_factory=dict)
    """By where the answer came from."""
    clicks: int = 0
    recomputed: int = 0
    unknown: int = 0
    strangers: int = 0
    """Slates for users of whom nothing was known."""
    predicted: float = 0.0
    """Sum of the predicted chances of a click on slates, beside how many were clicked: the drift alarm's."""
    observed: int = 0
    batches: int = 0
    switches: int = 0
    asked: int = 0
    """Slates from kept states."""
    wanted: int = 0
    """Items of the exact answer, over the requests that were asked again of the whole table."""
    found: int = 0
    """Of these, the ones that the retrieval held."""
