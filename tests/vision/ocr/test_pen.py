"""Pens: files of strokes, streams that equal the whole, networks that learn, IMU letters."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from core.config import replace
from core.errors import DataError
from core.metrics.edit_distance import edit_distance
from tests.vision.ocr.test_commands import run
from vision.ocr.codec import Codec
from vision.ocr.decoding import Decoding
from vision.ocr.pen.growing import GrowingBatches
from vision.ocr.pen.imu import LetterConfig, Motion, read_motions, train_letters
from vision.ocr.pen.model import PenNetwork
from vision.ocr.pen.stream import PenStream, read_pen, read_pens
from vision.ocr.pen.strokes import (
    PIECES,
    Steps,
    from_stroke,
    levelled,
    read_ink,
    steps_of,
    to_stroke3,
    x_height,
)
from vision.ocr.pen.synth import imu, imu_set, inks
from vision.ocr.pen.train import PenConfig, changed, generate


def pen() -> tuple[PenNetwork, Codec]:
    torch.manual_seed(0)
    codec = Codec(tuple("abc "))
    return PenNetwork(codec.size, hidden=12).eval(), codec


@pytest.mark.parametrize("pieces", [1, 2, 7, 400])
def test_a_stream_equals_the_whole_for_every_cutting(pieces: int) -> None:
    network, codec = pen()
    points = inks(1, 3)[0].points
    steps = Steps(1.0).feed(points)
    with torch.no_grad():
        whole, _ = network(torch.from_numpy(steps)[None])
    stream = PenStream(height=1.0, network=network, codec=codec)
    seen: list[torch.Tensor] = []
    take = stream.take
    stream.take = lambda logits: (seen.append(logits), take(logits))[1]  # type: ignore[method-assign]
    for part in np.array_split(points, pieces):
        stream.feed(part)
    torch.testing.assert_close(torch.stack(seen), whole[0], atol=1e-5, rtol=0)


def test_a_stream_goes_on_from_its_state() -> None:
    network, codec = pen()
    points = inks(1, 4)[0].points
    one, two = (PenStream(height=1.0, network=network, codec=codec) for _ in range(2))
    one.feed(points[:60])
    two.restore(one.state())
    assert one.feed(points[60:]) == two.feed(points[60:])
    text = one.text
    assert one.flush() == text
    assert one.text == ""


def test_the_network_has_the_contract_of_a_unit() -> None:
    network, _ = pen()
    x = torch.randn(2, 6, network.input_size)
    with torch.no_grad():
        whole, _ = network(x)
        state = network.initial_state(x)
        for t in range(6):
            y, state = network.step(x[:, t], state)
            torch.testing.assert_close(y, whole[:, t], atol=1e-5, rtol=1e-5)


def test_stroke_arrays_come_back() -> None:
    array = np.array([[1, 0, 0], [2, 1, 1], [3, -1, 0], [1, 1, 1]], float)
    np.testing.assert_allclose(to_stroke3(from_stroke(array)), array)
    five = np.array([[1, 0, 1, 0, 0], [2, 1, 0, 1, 0], [0, 0, 0, 0, 1], [9, 9, 1, 0, 0]], float)
    np.testing.assert_allclose(from_stroke(five)[:, :2], [[1, 0], [3, 1]])
    with pytest.raises(DataError, match=r"\(n, 3\) or \(n, 5\)"):
        from_stroke(np.zeros((4, 4)))


def test_files_of_pens_are_read(tmp_path: Path) -> None:
    run("simulate", "pen", "-o", tmp_path / "made", "--count", 2, "--seed", 5)
    (one,) = read_ink(tmp_path / "made" / "00000.csv")
    assert one.text == inks(1, 5)[0].text
    np.testing.assert_allclose(one.points, inks(1, 5)[0].points, atol=1e-4)
    xml = '<S><StrokeSet><Stroke><Point x="1" y="2" time="0"/><Point x="2" y="2" time="0.1"/></Stroke>'
    (tmp_path / "a.xml").write_text(xml + '<Stroke><Point x="5" y="5" time="1"/></Stroke></StrokeSet></S>')
    assert read_ink(tmp_path / "a.xml")[0].points[:, 3].tolist() == [1, 0, 0]
    np.savez(tmp_path / "a.npz", one=to_stroke3(one.points))
    assert read_ink(tmp_path / "a.npz")[0].points.shape == one.points.shape


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "t,x\n1,2\n", "no column y and down"),
        ("a.csv", "t,x,y,down\n1,2,z,1\n", "line 2: expected numbers"),
        ("a.csv", "t,x,y,down\n", "no points"),
        ("a.xml", "<S/>", "no points"),
        ("a.xml", "<S><Stroke><Point y='1'/></Stroke></S>", "without numbers"),
        ("a.npy", "nothing", "not a complete file of numpy"),
    ],
)
def test_damaged_pens_are_one_sentence(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read_ink(tmp_path / name)


def test_a_slope_is_taken_out_and_the_height_found() -> None:
    points = inks(1, 8, 30)[0].points
    turned = points.copy()
    turned[:, 1] += 0.2 * points[:, 0]
    flat = levelled(turned)
    middles = [np.polyfit(p[:, 0], p[:, 1], 1)[0] for p in (turned, flat)]
    assert abs(middles[1]) < 0.5 * abs(middles[0])
    assert 0.5 < x_height(points) < 2.0
    np.testing.assert_allclose(steps_of(points), steps_of(points * [7, 7, 1, 1]), atol=1e-3)


def test_a_dot_is_a_step_and_the_way_back_to_it_is_told() -> None:
    stem = [[0, 0, 0, 1], [0, 1, 0.1, 0], [3, 0, 0.2, 1], [3, 1, 0.3, 0]]
    dot = [[0, -0.4, 0.5, 1], [0.01, -0.4, 0.6, 0]]
    steps = Steps(1.0).feed([*stem, *dot])
    assert steps[-1].tolist()[: 2 * PIECES] == [0.0] * 2 * PIECES
    assert steps[-1, -2:].tolist() == [1, 1]  # down, and a stroke begins
    np.testing.assert_allclose(steps[-2, :2], [-3, -1.4], atol=1e-6)  # through the air
    np.testing.assert_allclose(steps[-2, 2 * PIECES + 1], -3, atol=1e-6)  # behind the rightmost point


def test_texts_grow_while_a_pen_is_learned() -> None:
    lengths, characters = [10] * 30 + [40] * 30 + [90] * 30, [2] * 30 + [6] * 30 + [15] * 30
    batches = GrowingBatches(lengths, characters, 7, 200, 20, lambda rows, _: rows.tolist(), seed=3)
    longest = [max(i for rows in batches.epoch(e, 0, 1, 0) for i in rows) for e in (0, 2, 3, 6, 7, 19)]
    assert [number // 30 for number in longest[:5]] == [0, 0, 1, 1, 2]
    for rows in batches.epoch(10, 0, 1, 0):
        assert len(rows) * max(lengths[i] for i in rows) <= 200
    whole = [sorted(rows) for rows in batches.epoch(10, 0, 1, 0)]
    halves = [[sorted(rows) for rows in batches.epoch(10, rank, 2, 0)] for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*halves, strict=True)] == whole
    assert len(list(batches.epoch(10, 0, 1, 4))) == 3


def test_generated_inks_do_not_depend_on_the_makers() -> None:
    small = PenConfig(generated=12)
    one, two = generate(small), generate(replace(small, {"makers": 2}))
    assert [text for _, text in one] == [text for _, text in two]
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(one, two, strict=True))


def test_changing_an_ink_keeps_its_padding_and_its_directions() -> None:
    own = torch.from_numpy(steps_of(inks(1, 3)[0].points))
    x = torch.zeros(1, len(own) + 5, own.shape[1])
    x[0, : len(own)] = own
    told = changed(x, 1.0, torch.Generator().manual_seed(1))
    assert not told[0, len(own) :].any()
    np.testing.assert_array_equal(told[..., -2:], x[..., -2:])
    lengths = told[0, : len(own), :2].norm(dim=-1)[(own[:, -2] > 0.5) & own[:, :2].any(1)]
    np.testing.assert_allclose(lengths, 1.0, atol=1e-5)


def test_training_a_pen_writes_weights_that_read(tmp_path: Path) -> None:
    small = [
        "--set",
        "generated=40",
        "--set",
        "hidden=12",
        "--set",
        "layers=1",
        "--set",
        "loop.epochs=1",
        "--set",
        "steps=8",
    ]
    code, _, heard = run("train", "pen", "--out", tmp_path / "run", *small)
    assert code == 0, heard
    stream = PenStream(tmp_path / "run", height=1.0)
    assert isinstance(stream.feed(inks(1, 2)[0].points), str)


def test_an_imu_tells_gravity_and_letters_are_learned(tmp_path: Path) -> None:
    told = imu("a", np.random.default_rng(0))
    assert told.shape[1] == 6
    assert 9 < np.linalg.norm(told[:, :3], axis=1).mean() < 11
    made = [Motion(values, letter) for values, letter in imu_set(60, 1, ("l", "m"))]
    config = replace(LetterConfig(hidden=16, layers=1, batch=10), {"loop": {"epochs": 20, "lr": 5e-3}})
    outcome = train_letters(config, tmp_path / "run", made[:40], made[40:], quiet=True)
    assert outcome.card.score["wrong"] <= 0.3


def test_tables_of_motions(tmp_path: Path) -> None:
    head = "t,ax,ay,az,gx,gy,gz,label,writer\n"
    rows = ["0,1,2,3,4,5,6,a,w", "0.01,1,2,3,4,5,6,a,w", "0,1,2,3,4,5,6,a,w", "0.01,1,2,3,4,5,6,b,w"]
    (tmp_path / "m.csv").write_text(head + "\n".join(rows) + "\n")
    assert [(len(m.values), m.label) for m in read_motions(tmp_path / "m.csv")] == [
        (2, "a"),
        (1, "a"),
        (1, "b"),
    ]
    (tmp_path / "m.csv").write_text(head + "0,1,2,inf,4,5,6,a,w\n")
    with pytest.raises(DataError, match="finite"):
        read_motions(tmp_path / "m.csv")


def test_the_bundled_pen_reads_generated_hands(tmp_path: Path) -> None:
    made = inks(12, 31, 10)
    told = read_pens(made)
    errors = sum(edit_distance(ink.text or "", text) for ink, text in zip(made, told, strict=True))
    assert errors < 0.4 * sum(len(ink.text or "") for ink in made)
    digits = read_pen(made[0], decoding=Decoding(allow="0123456789"))
    assert set(digits) <= set("0123456789 ")
    stream = PenStream(height=1.0)
    stream.feed(made[0].points)
    assert stream.flush()


def test_evaluate_pen_scores_every_file(tmp_path: Path) -> None:
    run("simulate", "pen", "-o", tmp_path / "pens", "--count", 3, "--seed", 4)
    (tmp_path / "pens" / "00001.csv").write_text("nothing")
    code, out, said = run("evaluate", "pen", tmp_path / "pens", "--json", tmp_path / "r.json")
    assert code == 0, said
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["n"] == 3
    assert found["items"][1]["text"] == ""
    assert "no column" in found["items"][1]["error"]
    assert set(found["model"]) >= {"cer", "wer", "string_accuracy", "cer_low"}
    assert "CER" in out
    assert "no stroke file" in run("evaluate", "pen", tmp_path / "r.json")[2]
