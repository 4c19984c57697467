"""What is made for others has a name of `core`, whichever module was loaded before."""

import importlib

import pytest

import core

NAMES = "align CharLM ctc_loss greedy load_char_lm PrefixBeam prefix_beam train_char_lm word_beam"


@pytest.mark.parametrize("name", NAMES.split())
def test_decoders_and_models_are_names_of_core(name: str) -> None:
    found = getattr(core, name)
    assert callable(found)
    assert found.__name__ == name
    assert found.__module__.startswith("core.ctc.")
    package = importlib.import_module("core.ctc")
    assert getattr(package, name) is found
    assert name in core.__all__
