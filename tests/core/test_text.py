"""What strangers write stays text: on a terminal, in XML, HTML, JSON and tables."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from core.tables import read_index, write_table
from core.text import from_cell, in_cell, in_html, in_json, in_xml, shown, xml_attribute

ODD = "a\x1b[2J\x07\x00\u202eb\ud800\x85<&\"'\u2066\n"


def test_nothing_acts_on_a_terminal() -> None:
    assert shown(ODD) == "a\\x1b[2J\\x07\\x00\\u202eb\\ud800\\x85<&\"'\\u2066\n"
    assert shown("ü\t日本") == "ü\t日本"
    assert shown("x" * 100, 10) == "xxxxxxx..."


def test_xml_can_be_parsed_whatever_it_holds() -> None:
    tree = ElementTree.fromstring(f"<a b={xml_attribute(ODD)}>{in_xml(ODD)}</a>")
    assert tree.text == "a\ufffd[2J\ufffd\ufffd\u202eb\ufffd\x85<&\"'\u2066\n"
    assert tree.get("b", "").startswith("a\ufffd[2J")


def test_html_shows_tags() -> None:
    assert in_html("<img src=x>\x1b") == "&lt;img src=x&gt;\\x1b"


def test_json_has_no_nan_and_no_half_characters() -> None:
    text = in_json(
        {"a": [np.float32("nan"), float("inf"), np.arange(2)], 1: Path("x"), "é": ODD}, letters=True
    )
    found = json.loads(text.encode(), parse_constant=pytest.fail)
    assert found["a"] == [None, None, [0, 1]]
    assert found["1"] == "x"


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("=1+1", True),
        ("+cmd", True),
        ("@a", True),
        ("-x.wav", True),
        ("\tx", True),
        ("-1.5", False),
        ("a", False),
    ],
)
def test_no_cell_is_a_formula_and_readers_take_the_quote_away(
    text: str, quoted: bool, tmp_path: Path
) -> None:
    assert in_cell(text) == (f"'{text}" if quoted else text)
    assert from_cell(in_cell(text)) == text
    write_table(tmp_path / "i.csv", ["name", "n"], [[text, float("nan")]])
    (row,) = read_index(tmp_path / "i.csv", ["name"])
    assert row.text("name") == text
    assert row.text("n", "") == ""


def test_what_begins_with_an_apostrophe_keeps_it() -> None:
    assert from_cell("'tis") == "'tis"
