"""A recording as a whole: a voice that comes on another track is put back, one voice alone is one track."""

from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speech.conversation import Traits, routed
from speech.metrics import si_sdr
from speech.model import load_model
from speech.predict import PIECE_S, separate, separate_file
from speech.synth import voice

RATE = 16000


def turns(genders: str, seconds: float, seed: int, pause_s: float = 0.0) -> np.ndarray:
    """Talkers in turn (S, N), each begun a little before the other ends; a pause after the first half."""
    rng = np.random.default_rng(seed)
    voices = np.stack([voice(seconds, rng, gender) for gender in genders])
    edges = [0, *np.cumsum(rng.uniform(1.5, 3.0, int(seconds))).tolist()]
    tracks = np.zeros_like(voices)
    for number, (low, high) in enumerate(pairwise(edges)):
        a, b = int(low * RATE), int((high + 0.4) * RATE)
        tracks[number % len(genders), a:b] = voices[number % len(genders), a:b]
    half = tracks.shape[1] // 2
    silence = np.zeros((len(genders), int(pause_s * RATE)), np.float32)
    return np.concatenate([tracks[:, :half], silence, tracks[:, half:]], 1)


def sorted_out(tracks: np.ndarray, size: int = 20000) -> np.ndarray:
    traits = Traits(len(tracks), RATE)
    pieces = [tracks[:, i : i + size] for i in range(0, tracks.shape[1], size)]
    for piece in pieces:
        traits.hear(torch.from_numpy(piece))
    return np.concatenate(list(routed(pieces, traits.routes(), traits.block, RATE)), 1)


def off_their_track(tracks: np.ndarray, voices: np.ndarray) -> float:
    """Share of the power that lies on another track, in the order of tracks that fits best."""
    orders = map(list, permutations(range(len(voices))))
    error = min(np.square(tracks[order] - voices).sum() for order in orders)
    return float(error / np.square(voices).sum())


@pytest.mark.parametrize(("genders", "seed"), [("fm", 0), ("ff", 5), ("mm", 3)])
def test_tracks_that_change_places_are_put_back(genders: str, seed: int) -> None:
    voices = turns(genders, 24.0, seed, pause_s=3.0)
    for begin in (12.0, 13.5, 9.0):  # with the pause, in it, and in the midst of speech
        mixed_up = voices.copy()
        place = int(begin * RATE)
        mixed_up[:, place:] = voices[::-1, place:]
        assert off_their_track(mixed_up, voices) > 0.3
        found = sorted_out(mixed_up)
        assert off_their_track(found, voices) < 0.12
        np.testing.assert_allclose(found.sum(0), voices.sum(0), atol=1e-6)


def test_tracks_that_are_right_stay_as_they_are() -> None:
    voices = turns("fm", 16.0, 4)
    np.testing.assert_array_equal(sorted_out(voices), voices)
    for length in (1, 700, 3000):
        short = np.ascontiguousarray(voices[:, :length])
        np.testing.assert_array_equal(sorted_out(short), short)
    silence = np.zeros((2, RATE), np.float32)
    np.testing.assert_array_equal(sorted_out(silence), silence)


def test_one_voice_on_both_tracks_is_brought_together() -> None:
    wave = turns("f", 20.0, 5)[0]
    here = (np.arange(len(wave)) // (4 * RATE)) % 2 == 0
    tracks = np.stack([wave * here, wave * ~here])
    found = sorted_out(tracks)
    np.testing.assert_allclose(found[0], wave, atol=1e-7)
    assert not found[1].any()
    traits = Traits(2, RATE)
    traits.hear(torch.from_numpy(tracks))
    assert not (traits.routes(merge=False).sum(-1) > 1).any()


def test_three_talkers_are_put_back() -> None:
    voices = turns("fmf", 30.0, 6, pause_s=2.0)
    mixed_up = voices.copy()
    place = 16 * RATE
    mixed_up[:, place:] = voices[[1, 0, 2], place:]
    assert off_their_track(mixed_up, voices) > 0.2
    assert off_their_track(sorted_out(mixed_up), voices) < 0.05


def test_what_is_heard_does_not_depend_on_pieces_and_goes_on_from_a_state() -> None:
    voices = turns("fm", 6.0, 7)
    whole, parts = Traits(2, RATE), Traits(2, RATE)
    whole.hear(torch.from_numpy(voices))
    for start in range(0, voices.shape[1], 7001):
        parts.hear(torch.from_numpy(voices[:, start : start + 7001]))
        other = Traits(2, RATE)
        other.load_state(parts.state())
        parts = other
    for a, b in zip(whole.blocks(), parts.blocks(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(whole.routes(), parts.routes())


def test_a_conversation_with_long_pauses_keeps_its_voices(tmp_path: Path) -> None:
    """The bundled network, the file path: no voice changes its track, all parts are better than the input."""
    voices = turns("fm", 24.0, 9, pause_s=30.0)
    mixture = voices.sum(0)
    soundfile.write(tmp_path / "mix.wav", mixture, RATE, subtype="FLOAT")
    model = load_model(None, "separate")
    out = [tmp_path / "1.wav", tmp_path / "2.wav"]
    separate_file(tmp_path / "mix.wav", out, model, passes=1)
    tracks = np.stack([soundfile.read(path, dtype="float32")[0] for path in out])
    assert tracks.shape == voices.shape
    order = min(([0, 1], [1, 0]), key=lambda order: float(np.square(tracks[order] - voices).sum()))
    for part in (slice(0, 12 * RATE), slice(42 * RATE, None)):
        better = [
            si_sdr(tracks[k, part], voices[n, part]) - si_sdr(mixture[part], voices[n, part])
            for n, k in enumerate(order)
        ]
        assert min(better) > 3.0, better
    assert len(mixture) > PIECE_S * RATE
    same = separate(mixture, RATE, weights=model, passes=1)
    np.testing.assert_allclose(np.stack(same), tracks, atol=1e-6)
