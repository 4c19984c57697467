"""Recordings that are strange but valid, and input that is not: the form stays, or one sentence is said."""

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import DataError, RecurraError, WeightsError
from speech import audio
from speech.audio import read_sound
from speech.layouts import read_tensors
from speech.model import load_model
from speech.predict import enhance, enhance_file, open_stream, separate, separate_file
from tests.terminal import Terminal


def noise(samples: int, channels: int = 1, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(0).standard_normal((samples, channels)).astype(np.float32)


def sine(samples: int, rate: int = 16000) -> np.ndarray:
    return np.sin(2 * np.pi * 440 * np.arange(samples) / rate).astype(np.float32)[:, None]


STRANGE: dict[str, tuple[np.ndarray, int, str]] = {
    "40 ms": (noise(640), 16000, "PCM_16"),
    "one sample": (noise(1), 16000, "PCM_16"),
    "silence": (np.zeros((8000, 1), np.float32), 16000, "PCM_16"),
    "clipping": (np.clip(4 * sine(8000), -1, 1), 16000, "PCM_16"),
    "over full scale": (4 * sine(8000), 16000, "FLOAT"),
    "constant": (np.full((8000, 1), 0.5, np.float32), 16000, "PCM_16"),
    "8 bit": (noise(8000), 16000, "PCM_U8"),
    "192 kHz": (noise(19200), 192000, "PCM_24"),
    "8 channels": (noise(4000, 8), 16000, "PCM_16"),
    "24 bit, odd length": (noise(4001), 16000, "PCM_24"),
    "4 kHz": (noise(2000), 4000, "PCM_16"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_recordings_keep_their_form(kind: str, weights: dict[str, str], tmp_path: Path) -> None:
    wave, rate, subtype = STRANGE[kind]
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(source, wave, rate, subtype=subtype)
    enhance_file(source, target, load_model(weights["enhance"]))
    before, after = soundfile.info(source), soundfile.info(target)
    for fact in ("samplerate", "channels", "frames", "subtype"):
        assert getattr(before, fact) == getattr(after, fact)
    found = soundfile.read(target)[0]
    assert np.isfinite(found).all()
    if kind == "silence":
        assert not found.any()
    tracks = [tmp_path / f"t{k}.wav" for k in (1, 2)]
    separate_file(source, tracks, load_model(weights["separate"], "separate"), gate_db=None)
    both = sum(soundfile.read(track)[0] for track in tracks)
    given_wave = soundfile.read(source, always_2d=True)[0].mean(1)
    step = {"PCM_U8": 2**-7, "PCM_16": 2**-15}.get(subtype, 2**-22)
    if kind not in ("clipping", "over full scale"):  # a track may pass full scale where the mixture does not
        np.testing.assert_allclose(both, given_wave, atol=2.1 * step)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "w64"])
def test_a_recording_that_breaks_off_is_read_as_far_as_it_goes_and_told(
    suffix: str, weights: dict[str, str], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / f"whole.{suffix}", noise(8000), 16000)
    data = (tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"half.{suffix}").write_bytes(data[: len(data) // 2])
    model = load_model(weights["enhance"])
    for name, samples, said in (("whole", 8000, 0), ("half", 4000, 1)):
        found = enhance_file(tmp_path / f"{name}.{suffix}", tmp_path / "out.wav", model)
        assert soundfile.info(tmp_path / "out.wav").frames == pytest.approx(samples, abs=60)
        assert len(found.remarks) == said
    separator = load_model(weights["separate"], "separate")
    found = separate_file(tmp_path / f"half.{suffix}", [tmp_path / f"{k}.wav" for k in "ab"], separator)
    assert "breaks off" in found.remarks[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_told_with_their_place(
    bad: float, weights: dict[str, str], tmp_path: Path
) -> None:
    wave = noise(8000)
    wave[4000] = bad
    soundfile.write(tmp_path / "in.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"0\.250 s"):
        enhance_file(tmp_path / "in.wav", tmp_path / "out.wav", load_model(weights["enhance"]))
    for call, task in ((enhance, "enhance"), (separate, "separate")):
        with pytest.raises(DataError, match="no finite numbers"):
            call(wave[:, 0], 16000, weights=weights[task])
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_numbers_beyond_all_sound_are_told_or_left_out_of_a_stream(
    weights: dict[str, str], tmp_path: Path
) -> None:
    wave = noise(8000)
    wave[4000] = 3e20
    soundfile.write(tmp_path / "in.wav", wave, 16000, subtype="FLOAT")
    with pytest.raises(DataError, match=r"0\.250 s is 3e\+20, which is no sound"):
        read_sound(tmp_path / "in.wav")
    with pytest.raises(DataError, match="beyond all sound"):
        enhance(wave[:, 0], 16000, weights=weights["enhance"])
    stream = open_stream(weights["enhance"])
    assert np.isfinite(stream.feed(wave[:, 0])).all()
    assert stream.bad_samples == 1


def test_a_header_that_tells_of_less_is_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", noise(8000), 16000)
    data = (tmp_path / "in.wav").read_bytes()
    place = data.index(b"data") + 4
    (tmp_path / "in.wav").write_bytes(data[:place] + (100).to_bytes(4, "little") + data[place + 4 :])
    with audio.open_sound(tmp_path / "in.wav") as sound:
        assert "behind the 50 samples" in sound.remarks[0]
        assert len(sound.read()) == 50


def test_raw_samples_are_what_their_suffix_says(weights: dict[str, str], tmp_path: Path) -> None:
    wave = noise(1600)
    (tmp_path / "in.f32").write_bytes(wave.astype("<f4").tobytes())
    np.testing.assert_array_equal(read_sound(tmp_path / "in.f32")[0], wave)
    model = load_model(weights["enhance"])
    enhance_file(tmp_path / "in.f32", tmp_path / "out.s16", model, limit_db=0.0)
    assert (tmp_path / "out.s16").stat().st_size == 2 * 1600
    enhance_file(tmp_path / "out.s16", tmp_path / "back.f32", model, limit_db=0.0)
    np.testing.assert_allclose(read_sound(tmp_path / "back.f32")[0], wave, atol=2**-15)
    for source, subtype in (("in.f32", "FLOAT"), ("out.s16", "PCM_16")):
        enhance_file(tmp_path / source, tmp_path / "out.wav", model)
        assert soundfile.info(tmp_path / "out.wav").subtype == subtype


def test_words_for_raw_samples_are_refused_elsewhere_and_none_is_lost(
    weights: dict[str, str], tmp_path: Path, recurra: Terminal
) -> None:
    soundfile.write(tmp_path / "in.wav", noise(1600), 16000)
    (tmp_path / "in.raw").write_bytes(np.zeros(2400, "<i2").tobytes())
    words = ["--weights", weights["enhance"], "--quiet"]
    for name, said, told in (
        ("in.wav", ["--rate", 8000], "raw samples only"),
        ("in.raw", ["--rate", 0], "must be positive"),
        ("in.raw", ["--channels-in", 0], "must be positive"),
        ("in.raw", ["--channels", 7], "7 channels"),
    ):
        code, _, error = recurra(
            "speech", "enhance", tmp_path / name, "-o", tmp_path / "o.wav", *words, *said
        )
        assert code == 2
        assert told in error
    code, _, error = recurra(
        "speech", "enhance", tmp_path / "in.raw", "-o", tmp_path / "o.wav", *words, "--channels", 3
    )
    assert (code, soundfile.info(tmp_path / "o.wav").channels) == (0, 3), error


def test_an_offset_is_nobodys_voice(weights: dict[str, str], tmp_path: Path) -> None:
    wave = noise(16000)[:, 0]
    words: dict[str, Any] = {"weights": weights["separate"], "gate_db": None, "passes": 1}
    plain = np.stack(separate(wave, 16000, **words))
    offset = np.stack(separate(wave + np.float32(0.5), 16000, **words))
    np.testing.assert_allclose(offset.sum(0), wave + 0.5, atol=1e-5)
    added = np.fft.rfft(offset - plain)  # a second: bins of 1 Hz
    assert float(np.abs(added[:, 200:]).max()) < 1e-3 * float(np.abs(added).max())
    for bad in (np.nan, 0.0, 3.0):
        with pytest.raises(RecurraError, match="gate-db"):
            separate(wave, 16000, weights=weights["separate"], gate_db=bad)
    with pytest.raises(RecurraError, match="limit-db"):
        enhance(wave, 16000, weights=weights["enhance"], limit_db=np.nan)


def test_a_wrong_task_is_one_sentence_and_exit_code_2(
    weights: dict[str, str], tmp_path: Path, recurra: Terminal
) -> None:
    soundfile.write(tmp_path / "in.wav", noise(1600), 16000)
    words = ["speech", "enhance", tmp_path / "in.wav", "-o", tmp_path / "o.wav"]
    code, out, told = recurra(*words, "--weights", weights["separate"])
    assert (code, out) == (2, "")
    assert "separate" in told
    assert len(told.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_a_checkpoint_of_three_files_names_what_is_missing(tmp_path: Path) -> None:
    from speech.layouts import build, load_published

    network = build("asteroid-dprnn", {})
    torch.save({"conv1d.weight": torch.zeros(1)}, tmp_path / "encoder.ckpt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "decoder.ckpt")
    found = read_tensors([tmp_path / "encoder.ckpt", tmp_path / "decoder.ckpt"])
    with pytest.raises(WeightsError, match="masker"):
        load_published(network, found)
    with pytest.raises(WeightsError, match="masknet"):
        read_tensors([tmp_path / "encoder.ckpt", tmp_path / "masknet.ckpt"])


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('ran')",)


def test_a_hostile_checkpoint_runs_no_code(tmp_path: Path) -> None:
    torch.save({"model": Bomb()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError):
        read_tensors([tmp_path / "evil.pth"])


def test_an_output_that_is_its_input_is_refused(weights: dict[str, str], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from speech.cli import app

    path = tmp_path / "in.wav"
    soundfile.write(path, noise(1600), 16000)
    before = path.read_bytes()
    for target in (path, tmp_path / "." / "x" / ".." / "in.wav"):
        result = CliRunner().invoke(
            app, ["enhance", str(path), "-o", str(target), "--weights", weights["enhance"]]
        )
        assert result.exit_code != 0
        assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".raw"])
def test_a_full_disk_leaves_nothing(
    suffix: str, weights: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "in.wav", noise(16000), 16000)
    kept = audio.Writer.write

    def full(self: audio.Writer, block: np.ndarray) -> None:
        def refuse(_: np.ndarray) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self.put = refuse
        kept(self, block)

    monkeypatch.setattr(audio.Writer, "write", full)
    with pytest.raises(RecurraError, match="No space left"):
        enhance_file(tmp_path / "in.wav", tmp_path / f"out{suffix}", load_model(weights["enhance"]))
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), start=st.integers(0, 60), kind=st.sampled_from(["WAV", "FLAC", "OGG"]))
def test_any_bytes_are_sound_or_one_sentence(data: bytes, start: int, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind.lower()}"
    soundfile.write(path, noise(200), 16000, format=kind)
    whole = path.read_bytes()
    path.write_bytes(whole[:start] + data + whole[start + len(data) :])
    try:
        wave, rate = read_sound(path)
    except DataError as error:
        told = str(error)
    else:
        told = "" if rate > 0 and np.isfinite(wave).all() else "\n"
    assert "\n" not in told


def test_quiet_speech_of_a_telephone_is_not_turned_into_silence() -> None:
    """300 to 3400 Hz at -50 dBFS, through the bundled network."""
    from scipy.signal import butter, sosfilt

    from speech.synth import voice

    wave = sosfilt(
        butter(4, [300, 3400], "bandpass", fs=16000, output="sos"), voice(3.0, np.random.default_rng(3))
    )
    wave = np.asarray(wave * 10 ** (-50 / 20) / np.sqrt(np.mean(np.square(wave))), np.float32)
    out = enhance(wave, 16000)
    change = 10 * np.log10(np.mean(np.square(out)) / np.mean(np.square(wave)))
    assert change > -6
