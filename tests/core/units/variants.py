"""Options under which the contract battery runs each unit, beside its defaults."""

from typing import Any

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "min_gru": [{"expansion": 1.5, "positive": True}, {"expansion": 2, "projection": False, "bias": False}],
    "min_lstm": [{"expansion": 1.5, "positive": True}],
    "lstm": [{"peephole": True}, {"projection": 3}],
    "gru": [{"reset": "before"}],
    "rnn": [{"activation": "relu"}],
}
