"""Options under which the contract battery runs each unit, beside its defaults."""

from typing import Any

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "mamba": [{"state_size": 5, "expand": 3, "rank": 2, "conv_width": 3, "bias": True}],
    "mamba2": [{"heads": 4, "groups": 2, "state_size": 6, "limit": (0.1, 0.6), "bias": True}],
    "rg_lru": [{"heads": 2}],
    "lru": [{"state_size": 5, "r_min": 0.5}],
    "s5": [{"state_size": 8, "blocks": 2}],
    "hgrn": [{"rotation": True, "lower_bound": 0.3}],
    "qrnn": [{"pooling": "f", "window": 1}, {"pooling": "ifo", "window": 3}],
    "s4": [{"state_size": 4, "measure": "fout"}],
    "s4d": [{"state_size": 4, "init": "inv"}],
    "min_gru": [{"expansion": 1.5, "positive": True}, {"expansion": 2, "projection": False, "bias": False}],
    "min_lstm": [{"expansion": 1.5, "positive": True}],
    "lstm": [{"peephole": True}, {"projection": 3}],
    "gru": [{"reset": "before"}],
    "rnn": [{"activation": "relu"}],
    "linear_attention": [{"heads": 2}, {"normalise": False}],
    "retention": [{"heads": 2}],
    "gla": [{"heads": 2}, {"key_size": 3, "gate_rank": 2}],
    "hgrn2": [{"heads": 2, "lower_bound": 0.3}],
    "rwkv4": [{"inner_size": 12}],
    "rwkv6": [{"heads": 2, "mix_rank": 3, "decay_rank": 5}],
    "rwkv7": [{"heads": 2, "decay_rank": 3, "gate_rank": 5}],
    "mlstm": [{"heads": 2, "key_factor": 0.5}, {"input_gate": "sigmoid"}],
    "aaren": [{"heads": 2}],
    "delta_net": [{"heads": 2, "negative_eigenvalues": True}],
    "gated_delta_net": [{"heads": 4, "key_heads": 2, "key_size": 3, "value_size": 5, "conv_width": 2}],
    "delta_product": [{"heads": 2, "steps": 3}],
}
