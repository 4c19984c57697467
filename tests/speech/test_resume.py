"""A long file that is interrupted goes on where it stood, to the same samples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speech import predict
from speech.model import load_model
from speech.resume import Journal, packed, unpacked
from speech.separation import SeparateStream


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "PIECE_S", 0.2)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_an_interrupted_file_ends_as_one_run_would(
    rate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = 0.1 * np.random.default_rng(0).standard_normal((rate + 77, 2)).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", wave, rate, subtype="FLOAT")
    model = load_model()
    predict.enhance_file(tmp_path / "in.wav", tmp_path / "whole.wav", model)
    kept: Any = Journal.save

    def dies(self: Journal, state: Any, facts: Any) -> None:
        kept(self, state, facts)
        if self.pieces == 3:
            self.file.write(b"half a piece that nobody asked for")
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        predict.enhance_file(tmp_path / "in.wav", tmp_path / "out.wav", model, resume=True)
    assert not (tmp_path / "out.wav").exists()
    monkeypatch.setattr(Journal, "save", kept)
    done = predict.enhance_file(tmp_path / "in.wav", tmp_path / "out.wav", model, resume=True)
    a, b = (soundfile.read(tmp_path / name, dtype="float32")[0] for name in ("whole.wav", "out.wav"))
    np.testing.assert_array_equal(a, b)
    assert done.seconds == pytest.approx(len(wave) / rate)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.wav", "out.wav", "whole.wav"]


@pytest.mark.parametrize("rate", [16000, 24000])
def test_interrupted_tracks_end_as_one_run_would(
    rate: int, weights: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    wave = 0.1 * rng.standard_normal((14 * rate, 1)).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", wave, rate, subtype="FLOAT")
    monkeypatch.setattr(predict, "PIECE_S", 5.0)
    model = load_model(weights["separate"], "separate")
    whole = [tmp_path / "whole_s1.wav", tmp_path / "whole_s2.wav"]
    predict.separate_file(tmp_path / "in.wav", whole, model, passes=1)
    kept: Any = Journal.save

    def dies(self: Journal, state: Any, facts: Any) -> None:
        kept(self, state, facts)
        if self.pieces == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "save", dies)
    out = [tmp_path / "out_s1.wav", tmp_path / "out_s2.wav"]
    with pytest.raises(KeyboardInterrupt):
        predict.separate_file(tmp_path / "in.wav", out, model, passes=1, resume=True)
    assert not out[0].exists()
    monkeypatch.setattr(Journal, "save", kept)
    heard: list[int] = []
    feed: Any = SeparateStream.feed
    monkeypatch.setattr(SeparateStream, "feed", lambda self, x: heard.append(len(x)) or feed(self, x))
    done = predict.separate_file(tmp_path / "in.wav", out, model, passes=1, resume=True)
    assert heard == [4 * rate]  # two pieces of 5 s were done
    for a, b in zip(whole, out, strict=True):
        np.testing.assert_array_equal(*(soundfile.read(path, dtype="float32")[0] for path in (a, b)))
    assert done.seconds == pytest.approx(14.0)
    assert not list(tmp_path.glob("*.unfinished"))


def test_what_another_work_left_is_not_used(tmp_path: Path) -> None:
    first = Journal(tmp_path / "a.wav", 1, {"mix": 1.0})
    first.write(np.ones(5, np.float32))
    first.save({"x": np.arange(3), "y": (1, [2.5, "z"])}, {"count": 5})
    first.file.close()
    same = Journal(tmp_path / "a.wav", 1, {"mix": 1.0})
    assert (same.pieces, same.frames, same.facts) == (1, 5, {"count": 5})
    assert same.state["y"] == (1, [2.5, "z"])
    same.file.close()
    other = Journal(tmp_path / "a.wav", 1, {"mix": 0.5})
    assert (other.pieces, other.frames, other.state) == (0, 0, None)
    other.file.close()
    (tmp_path / "a.wav.unfinished" / "state.npz").write_bytes(b"nonsense")
    with Journal(tmp_path / "a.wav", 1, {"mix": 1.0}) as damaged:
        assert damaged.state is None


def test_nestings_come_back_as_they_were() -> None:
    value = {"a": [np.arange(4), (None, True, "t")], "b": {"c": np.float32(0.5)}}
    arrays: list[np.ndarray] = []
    again = unpacked(packed(value, arrays), arrays)
    np.testing.assert_array_equal(again["a"][0], np.arange(4))
    assert again["a"][1] == (None, True, "t")
    assert again["b"] == {"c": 0.5}
