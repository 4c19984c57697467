"""What is made for others has a name of `core`, whichever module was loaded before."""

import importlib

import pytest

import core

NAMES = "align CharLM ctc_loss greedy load_char_lm PrefixBeam prefix_beam train_char_lm word_beam"

MODULES = "align greedy prefix_beam word_beam"


@pytest.mark.parametrize("name", NAMES.split())
def test_decoders_and_models_are_names_of_core(name: str) -> None:
    found = getattr(core, name)
    assert callable(found)
    assert found.__name__ == name
    assert found.__module__.startswith("core.ctc.")
    assert name in core.__all__


@pytest.mark.parametrize("name", MODULES.split())
def test_a_file_of_one_function_is_a_module_of_core_ctc(name: str) -> None:
    module = importlib.import_module(f"core.ctc.{name}")
    assert getattr(importlib.import_module("core.ctc"), name) is module
    assert getattr(module, name) is getattr(core, name)
