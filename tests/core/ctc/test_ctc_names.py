"""What is made for others has a name of `core`, too."""

import core
import core.ctc


def test_decoders_and_models_are_names_of_core() -> None:
    names = (
        "align",
        "CharLM",
        "ctc_loss",
        "greedy",
        "load_char_lm",
        "PrefixBeam",
        "prefix_beam",
        "word_beam",
    )
    for name in (*names, "train_char_lm"):
        assert getattr(core, name) is getattr(core.ctc, name)
        assert name in core.__all__
