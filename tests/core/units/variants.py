"""Options under which the contract battery runs each unit, beside its defaults."""

from typing import Any

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "lstm": [{"peephole": True}, {"projection": 3}],
    "gru": [{"reset": "before"}],
    "rnn": [{"activation": "relu"}],
}
