"""Files in, files out: rates, channels, kinds, lengths and levels stay; bad input is one sentence."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

import speech
from core.errors import ConfigError, DataError, RecurraError
from speech import audio
from speech.audio import RawFormat
from speech.cli import app


def wave(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((samples, channels)).astype(np.float32)


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


KINDS = [
    ("a.wav", "PCM_U8", 8000, 1),
    ("a.wav", "PCM_24", 48000, 2),
    ("a.wav", "FLOAT", 192000, 1),
    ("a.flac", "PCM_16", 44100, 8),
    ("a.ogg", "VORBIS", 22050, 1),
    ("a.opus", "OPUS", 16000, 1),
    ("a.mp3", "MPEG_LAYER_III", 16000, 1),
    ("a.aiff", "PCM_16", 16000, 1),
    ("a.caf", "PCM_16", 11025, 2),
    ("a.w64", "PCM_32", 32000, 1),
]


@pytest.mark.parametrize(
    ("name", "subtype", "rate", "channels"), KINDS, ids=[f"{k[1]}-{k[2]}" for k in KINDS]
)
def test_a_file_keeps_its_kind(
    name: str, subtype: str, rate: int, channels: int, weights: dict[str, str], tmp_path: Path
) -> None:
    source, target = tmp_path / name, tmp_path / "out" / name
    kind = {"opus": "OGG"}.get(name[2:], name[2:].upper())
    soundfile.write(source, wave(rate // 4 + 1, channels), rate, subtype=subtype, format=kind)
    before = soundfile.info(source)
    result = run("enhance", source, "-o", f"{target.parent}/", "--weights", weights["enhance"])
    assert result.exit_code == 0, result.output
    after = soundfile.info(target)
    assert (after.samplerate, after.channels, after.subtype, after.frames) == (
        before.samplerate,
        before.channels,
        before.subtype,
        before.frames,
    )


def test_no_attenuation_gives_the_file_back(weights: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "a.wav"
    soundfile.write(source, wave(30000, 2), 48000, subtype="FLOAT")
    assert run("enhance", source, "-o", tmp_path / "b.wav", "--limit-db", 0, "--weights", weights["enhance"])
    np.testing.assert_allclose(soundfile.read(tmp_path / "b.wav")[0], soundfile.read(source)[0], atol=1e-6)


def test_arrays_tensors_bytes_paths_and_files_give_the_same(weights: dict[str, str], tmp_path: Path) -> None:
    x = wave(8000)[:, 0]
    path = tmp_path / "a.wav"
    soundfile.write(path, x, 16000, subtype="FLOAT")
    model = speech.load_model(weights["enhance"])
    wanted = speech.enhance(x, 16000, weights=model)
    assert isinstance(speech.enhance(torch.from_numpy(x), 16000, weights=model), torch.Tensor)
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        np.testing.assert_array_equal(
            speech.enhance(source, weights=model)[:, 0]
            if source == 0
            else np.squeeze(speech.enhance(source, weights=model)),
            wanted,
        )
    assert speech.enhance(x[:, None], 16000, weights=model).shape == (8000, 1)
    with pytest.raises(ConfigError, match="rate"):
        speech.enhance(x)


def test_tracks_are_written_and_add_up(weights: dict[str, str], tmp_path: Path) -> None:
    x = wave(30000)
    soundfile.write(tmp_path / "talk.wav", x, 16000, subtype="FLOAT")
    words = ["separate", tmp_path / "talk.wav", "-o", tmp_path / "tracks", "--weights", weights["separate"]]
    result = run(*words, "--segments", tmp_path / "who.rttm", "--json", tmp_path / "r.json", "--gate-db", -90)
    assert result.exit_code == 0, result.output
    tracks = [soundfile.read(tmp_path / "tracks" / f"talk_s{k}.wav")[0] for k in (1, 2)]
    np.testing.assert_allclose(sum(tracks), x[:, 0], atol=1e-6)
    assert len(json.loads((tmp_path / "r.json").read_text())["files"][0]["out"]) == 2
    assert (tmp_path / "who.rttm").read_text().startswith("SPEAKER talk 1 ")


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Broken inputs and a word of the sentence that each deserves."""
    junk, empty, cut, nan, none = (folder / f"{n}.wav" for n in ("junk", "empty", "cut", "nan", "none"))
    junk.write_bytes(b"RIFF\x00\x01nonsense" * 20)
    empty.write_bytes(b"")
    soundfile.write(cut, wave(4000), 16000)
    cut.write_bytes(cut.read_bytes()[:30])
    broken = wave(4000)
    broken[1600] = np.nan
    soundfile.write(nan, broken, 16000, subtype="FLOAT")
    soundfile.write(none, np.zeros((0, 1)), 16000)
    return {
        "junk": (junk, "not a sound file"),
        "empty": (empty, "empty file"),
        "cut": (cut, "sound"),
        "nan": (nan, "0.100 s"),
        "none": (none, "no samples"),
        "missing": (folder / "missing.wav", "no such file"),
    }


@pytest.mark.parametrize("name", ["junk", "empty", "cut", "nan", "none", "missing"])
def test_bad_files_are_sentences_and_leave_nothing(
    name: str, weights: dict[str, str], tmp_path: Path
) -> None:
    path, said = bad_files(tmp_path)[name]
    result = run("enhance", path, "-o", tmp_path / "out.wav", "--weights", weights["enhance"])
    assert result.exit_code != 0
    assert isinstance(result.exception, RecurraError)
    assert said in str(result.exception)
    assert not list(tmp_path.glob("out.wav*"))


def test_a_folder_goes_on_and_reports(weights: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    bad_files(source)
    soundfile.write(source / "good.wav", wave(4000), 16000)
    words = ("enhance", source, "-o", tmp_path / "out", "--weights", weights["enhance"])
    result = run(*words, "--json", tmp_path / "r.json")
    assert result.exit_code == 2
    report = json.loads((tmp_path / "r.json").read_text())
    assert [Path(f["path"]).name for f in report["files"]] == ["good.wav"]
    assert len(report["failed"]) == 5
    assert run(*words).exit_code == 2  # what is done is left alone, what failed is tried again


def test_words_are_checked_before_work(weights: dict[str, str], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", wave(4000), 16000)
    a = tmp_path / "a.wav"
    for words, said in (
        (("-o", tmp_path / "a.xyz"), "cannot be written"),
        (("-o", a), "replace its input"),
        (("-o", tmp_path / "b.wav", "--channels", "all"), "each, link or mono"),
        (("-o", tmp_path / "b.wav", "--mix", 2), "mix"),
        (("-o", tmp_path / "b.wav", "--limit-db", -1), "limit-db"),
    ):
        result = run("enhance", a, *words, "--weights", weights["enhance"])
        assert said in str(result.exception), result.output
    result = run("enhance", a, "-o", tmp_path / "b.wav", "--weights", weights["separate"])
    assert "not for" in str(result.exception)


@pytest.mark.parametrize(("format", "width"), [("s16", 2), ("s24", 3), ("s32", 4), ("f32", 4), ("u8", 1)])
def test_raw_samples_survive(format: str, width: int, tmp_path: Path) -> None:
    raw = RawFormat(16000, 2, format)
    x = wave(100, 2)
    data, limited = raw.encode(x)
    assert len(data) == 200 * width
    assert limited == 0
    np.testing.assert_allclose(raw.decode(data), x, atol=2.0 ** (1 - 8 * min(width, 3)))
    (tmp_path / "a.raw").write_bytes(data[:-1])
    with pytest.raises(DataError, match="inside a sample"), audio.open_sound(tmp_path / "a.raw", raw):
        pass


def test_full_scale_is_kept_and_counted(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", wave(10), 16000)
    with (
        audio.open_sound(tmp_path / "a.wav") as sound,
        audio.writing(tmp_path / "b.wav", sound) as writer,
    ):
        writer.write(np.array([0.5, 1.5, -2.0], np.float32))
    assert writer.limited == 2
    np.testing.assert_allclose(soundfile.read(tmp_path / "b.wav")[0], [0.5, 1.0, -1.0], atol=1e-4)


def test_live_pipes_give_as_many_samples(weights: dict[str, str]) -> None:
    from speech.live import pipe
    from speech.predict import open_stream

    raw = RawFormat(48000, 1, "s16")
    data = raw.encode(wave(9001))[0]
    stream = open_stream(weights["enhance"], 48000)
    sink = io.BytesIO()
    report = pipe(stream, raw, io.BytesIO(data + b"\x01"), sink, patient=True)
    assert len(sink.getvalue()) == len(data) + 2 * stream.latency_samples
    assert report.lost_bytes == 1
    assert report.seconds == pytest.approx(9001 / 48000)
    wanted = speech.enhance(raw.decode(data)[:, 0], 48000, weights=weights["enhance"])
    found = raw.decode(sink.getvalue())[stream.latency_samples :, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
