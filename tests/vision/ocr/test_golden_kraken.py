"""kraken's networks, files, codec and line preparation give kraken's own numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from core.errors import WeightsError
from core.weights import load_into
from tests.golden import Entry, entries
from vision.ocr.layouts.kraken import KrakenCodec, greedy_rows, load_kraken
from vision.ocr.layouts.kraken_line import prepared
from vision.ocr.models.vgsl import VGSL


def close(found: Any, wanted: Any, entry: Entry) -> None:
    allowed = entry.tolerance(1e-4)
    np.testing.assert_allclose(
        np.asarray(found), np.asarray(wanted), atol=allowed, rtol=entry.about.get("suggested_rtol", 0.0)
    )


def network(entry: Entry) -> None:
    for spec in (entry.args["vgsl"], entry.about["vgsl_named"]):
        net = VGSL(spec)
        load_into(net, entry.weights())
    net.eval()
    inputs, outputs = entry.inputs(), entry.outputs()
    with torch.no_grad():
        if "heatmap" in outputs:
            close(net(inputs["image"])[0], outputs["heatmap"], entry)
            return
        lines = [inputs[f"line_{i}"] for i in range(sum(name.startswith("line_") for name in inputs))]
        codec = KrakenCodec.of(entry.args["codec"])
        for i, line in enumerate(lines):
            logits = net(line[None])[0][0, :, 0]
            close(logits, outputs[f"logits_alone_{i}"], entry)
            rows = greedy_rows(logits.numpy())
            assert [list(row[:3]) for row in rows] == outputs[f"greedy_{i}"].tolist()
            close([row[3] for row in rows], outputs[f"confidence_{i}"], entry)
            assert "".join(row[0] for row in codec.decode(rows)) == entry.about["texts"][i]
        if "logits_batch" in outputs:
            widest = max(line.shape[2] for line in lines)
            batch = torch.stack([torch.nn.functional.pad(x, (0, widest - x.shape[2])) for x in lines])
            logits, lengths = net(batch, inputs["lengths"])
            assert lengths.tolist() == outputs["lengths"].tolist()
            for row, length in enumerate(lengths.tolist()):
                wanted = outputs["logits_batch"][row, :, :length]
                close(logits[row, :, 0, :length], wanted, entry)


def preparation(entry: Entry) -> None:
    arrays = entry.arrays()
    for j, form in enumerate(entry.about["forms"]):
        spec = tuple(int(part) for part in form["spec"].split(","))
        i = 0
        while f"input.image_{j}_{i}" in arrays:
            image = arrays[f"input.image_{j}_{i}"]
            found = prepared(image, spec, form["padding"], centred=form["centre_normaliser"])
            close(found, arrays[f"output.line_{j}_{i}"], entry)
            i += 1


def codec(entry: Entry) -> None:
    for case in entry.values()["cases"]:
        ours = KrakenCodec.of(case["codec"]) if "codec" in case else None
        match case["kind"]:
            case "encode":
                assert ours.encode(case["text"]) == case["labels"]
            case "decode":
                found = ours.decode([tuple(row) for row in case["labels"]])
                assert [row[:3] for row in found] == [tuple(row[:3]) for row in case["decoded"]]
                close([row[3] for row in found], [row[3] for row in case["decoded"]], entry)
            case "valid":
                assert ours.valid == case["valid"]
            case _:
                other_kinds(case, ours)


def other_kinds(case: dict[str, Any], ours: KrakenCodec | None) -> None:
    if case["kind"] == "from_characters":
        found = KrakenCodec.from_characters(case["characters"])
        assert {text: list(code) for text, code in found.codes.items()} == case["codec"]
        return
    assert ours is not None
    if case["kind"] == "add":
        assert {t: list(code) for t, code in ours.add(case["characters"]).codes.items()} == case["result"]
        return
    merged, removed = ours.merge(KrakenCodec.of(case["other"]))
    assert {text: list(code) for text, code in merged.codes.items()} == case["merged"]
    assert sorted(removed) == sorted(case["removed_labels"])


def models(entry: Entry) -> None:
    found, remarks = load_kraken(entry.beside())
    assert remarks == []
    assert [model.name for model in found] == [about["prefix"] for about in entry.about["models"]]
    arrays = entry.arrays()
    readers = [(m, about) for m, about in zip(found, entry.about["models"], strict=True) if m.codec]
    for i, (model, about) in enumerate(readers):
        for j, text in enumerate(about["texts"]):
            line = prepared(arrays[f"input.image_{j}"], model.network.input)
            close(model.logits(line), arrays[f"output.logits_{i}_{j}"], entry)
            assert "".join(row[0] for row in model.read(line)) == text


def coreml(entry: Entry) -> None:
    (model,), _ = load_kraken(entry.beside())
    arrays = entry.arrays()
    for j, text in enumerate(entry.about["texts"]):
        line = prepared(arrays[f"input.image_{j}"], model.network.input)
        close(model.logits(line), arrays[f"output.logits_{j}"], entry)
        assert "".join(row[0] for row in model.read(line)) == text


def check_of(entry: Entry) -> Callable[[Entry], None] | None:
    named = {
        "kraken_line_preparation": preparation,
        "kraken_codec": codec,
        "kraken_models": models,
        "kraken_coreml": coreml,
    }
    stem = entry.file.split(".")[0]
    if entry.about.get("cls") == "kraken.lib.vgsl.TorchVGSLModel":
        return network
    return next((check for name, check in named.items() if stem.startswith(name)), None)


OURS = [entry for entry in entries("ocr") if check_of(entry) is not None]


@pytest.mark.parametrize("entry", OURS, ids=str)
def test_kraken_is_met(entry: Entry) -> None:
    check = check_of(entry)
    assert check is not None
    check(entry)


def test_a_broken_file_is_one_sentence(tmp_path: Any) -> None:
    for data in (b"\x12\xff\xff\xff\xff\x0f", b"", b"\x0a\x02hi", b"12345678{not json"):
        (tmp_path / "x.mlmodel").write_bytes(data)
        with pytest.raises(WeightsError, match=r"x\.mlmodel"):
            load_kraken(tmp_path / "x.mlmodel")
