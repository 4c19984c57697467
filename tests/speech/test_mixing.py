"""Mixtures by law: SNRs are met, sums are exact, seeds repeat; training mixtures are what they say."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from core.errors import ConfigError, DataError
from speech.dynamic import MixConfig, Mixer
from speech.mixing import LAWS, NOISY, MixLaw, mixtures, read_rooms, write_set
from speech.synth import generated_corpus

CORPUS = generated_corpus(talkers=4, seconds=4.0)


@pytest.mark.parametrize("law", LAWS)
def test_every_law_keeps_its_word(law: str, tmp_path: Path) -> None:
    asked = MixLaw(law, count=4, seconds=(0.6, 0.9), overlap=0.25)
    found = mixtures(asked, [CORPUS])
    again = mixtures(asked, [CORPUS])
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.mixture, other.mixture)
        assert np.abs(one.mixture).max() <= 0.91
        if "snr_db" in one.recipe:
            assert one.recipe["realised_snr_db"] == pytest.approx(one.recipe["snr_db"], abs=0.01)
        if law in ("wsj0-2mix", "librimix", "sparse"):
            np.testing.assert_allclose(one.mixture, sum(one.sources), atol=1e-12)
    index = write_set(found, asked, tmp_path / "set")
    assert len(index.read_text().splitlines()) == 5
    recipe = json.loads((tmp_path / "set" / "recipes.jsonl").read_text().splitlines()[0])
    assert recipe["law"]["seed"] == 0
    name = "noisy" if law in NOISY else "mix"
    wave, rate = soundfile.read(tmp_path / "set" / f"0_{name}.flac")
    assert rate == 16000
    np.testing.assert_allclose(wave, found[0].mixture, atol=1e-4)
    with pytest.raises(ConfigError, match="there already"):
        write_set(found, asked, tmp_path / "set")


def test_overlap_is_what_was_asked() -> None:
    for share in (0.0, 0.25, 1.0):
        law = MixLaw("sparse", count=1, seconds=(1.0, 1.0), overlap=share)
        one = mixtures(law, [CORPUS])[0]
        assert len(one.mixture) == pytest.approx((2 - share) * 16000, abs=2)
        end, begin = (np.flatnonzero(np.abs(source) > 0) for source in one.sources)
        assert end[-1] - begin[0] == pytest.approx(share * 16000, abs=200)


def test_training_mixtures_are_a_function_of_their_number() -> None:
    mixer = Mixer([CORPUS], MixConfig(seconds=1.0), torch.device("cpu"))
    first, again = mixer.enhancement(5, 16), mixer.enhancement(5, 16)
    torch.testing.assert_close(first, again)
    assert not torch.equal(first[0], mixer.enhancement(6, 16)[0])
    noisy, clean = first
    assert noisy.shape == clean.shape == (16, 16000)
    assert noisy.isfinite().all()
    assert float(noisy.abs().max()) <= 0.99
    mixture, sources = mixer.separation(3, 16)
    torch.testing.assert_close(mixture, sources.sum(1))
    levels = sources.square().mean(-1)
    gap = 10 * (levels[:, 0] / levels[:, 1].clamp(min=1e-12)).log10()
    assert float(gap[levels[:, 1] > 0].abs().max()) <= 5.5


def test_one_voice_cannot_be_mixed() -> None:
    alone = generated_corpus(talkers=1, seconds=2.0)
    with pytest.raises(ConfigError, match="two talkers"):
        Mixer([alone], MixConfig(), torch.device("cpu"))


def test_levels_of_a_law_are_numbers() -> None:
    with pytest.raises(ConfigError, match="finite numbers"):
        MixLaw(snr_db=(0.0, float("nan")))


def test_a_given_room_is_what_the_voice_sounds_in(tmp_path: Path) -> None:
    response = np.zeros(400)
    response[[10, 200]] = 0.5, 0.25  # direct sound at 10: an echo of a half 190 samples later
    soundfile.write(tmp_path / "hall.wav", response, 16000, subtype="DOUBLE")
    rooms = read_rooms([tmp_path])
    assert [room.name for room in rooms] == ["hall.wav"]
    corpora = [generated_corpus(talkers=2, seconds=3.0)]
    dry, wet = (
        mixtures(MixLaw("voicebank-demand", count=1, seconds=(1.0, 1.0), reverb=chance), corpora, rooms)[0]
        for chance in (0.0, 1.0)
    )
    assert (dry.recipe["room"], wet.recipe["room"]) == ("", "hall.wav")
    assert wet.recipe["realised_snr_db"] == pytest.approx(wet.recipe["snr_db"], abs=0.01)
    soundfile.write(tmp_path / "nothing.wav", np.zeros(100), 16000)
    with pytest.raises(DataError, match="silence"):
        read_rooms([tmp_path / "nothing.wav"])
