"""Every trainable network: a batch changes nothing, learning lowers the loss, kept keys change nothing."""

from typing import Any

import pytest
import torch

from core.config import replace
from vision.ocr.codec import Codec
from vision.ocr.config import ModelConfig, TrainConfig
from vision.ocr.models.decoders import AttentionLSTM, CachedDecoder
from vision.ocr.models.presets import build
from vision.ocr.models.tps import Rectify
from vision.ocr.models.vgsl_lines import VGSLLines

SMALL = {"channels": [4, 6, 8, 8], "hidden": 8, "layers": 1, "shortcut": False}
MASKED = ("lines", "pylaia", "easter", "easter2")
OTHERS = ("crnn", "htr", "vgsl")
SPELLERS = ("seq2seq", "r2am", "nrtr", "master")
HEIGHTS = {"lines": 32, "crnn": 32, "nrtr": 32, "easter": 40, "easter2": 40, "master": 48}


def network(name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    height = HEIGHTS.get(name, 48)
    config = replace(TrainConfig(), {"model": {**SMALL, "name": name, **more}, "line": {"height": height}})
    return build(config, 9).eval(), height


@pytest.mark.parametrize("name", MASKED)
@torch.no_grad()
def test_a_batch_changes_nothing(name: str) -> None:
    net, height = network(name)
    line, other = torch.rand(1, 1, height, 96), torch.rand(1, 1, height, 160)
    both = torch.zeros(2, 1, height, 160)
    both[0, :, :, :96], both[1] = line[0], other[0]
    alone = net(line, torch.tensor([96]))[0]
    frames = int(net.frames(torch.tensor(96)))
    assert len(alone) >= frames
    together = net(both, torch.tensor([96, 160]))[0][:frames, 0]
    torch.testing.assert_close(together, alone[:frames, 0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", OTHERS)
@torch.no_grad()
def test_frames_are_counted_as_they_come(name: str) -> None:
    net, height = network(name)
    for width in (96, 112, 160):
        assert len(net(torch.rand(1, 1, height, width))[0]) == int(net.frames(torch.tensor(width)))


@pytest.mark.parametrize("name", ["lines", "easter2", *SPELLERS])
def test_two_lines_are_learned(name: str) -> None:
    from vision.ocr.batches import MakeLines, Pool
    from vision.ocr.training import learn

    net, height = network(name, dropout=0.0, between_dropout=0.0, hidden_share=0.0)
    torch.manual_seed(1)
    inks = [(torch.rand(height, 96) * 255).byte().numpy() for _ in range(2)]
    batch = MakeLines(Pool(inks, [[1, 2, 3], [4, 4, 5]]), None)([0, 1], torch.Generator())
    step = learn(net, TrainConfig())
    best = torch.optim.Adam(net.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        best.zero_grad()
        loss = step(net.train(), batch)["loss"]
        loss.backward()
        best.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("own_norms", [True, False])
@torch.no_grad()
def test_kept_keys_equal_decoding_anew(own_norms: bool) -> None:
    torch.manual_seed(0)
    net = CachedDecoder(16, 4, 2, 32, 7, own_norms=own_norms).double().eval()
    H = torch.randn(2, 9, 16, dtype=torch.float64)
    outside = torch.arange(9) >= torch.tensor([[9], [6]])
    p = net.greedy(H, outside, 6)
    told = torch.cat([torch.full((2, 1), 7), p.argmax(-1)], 1)
    for step in range(p.shape[1]):
        full = net.teacher(H, outside, told[:, : step + 1])[0][:, -1].softmax(-1)
        torch.testing.assert_close(p[:, step], full, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["content", "location", "coverage"])
@torch.no_grad()
def test_attention_ignores_what_lies_outside(kind: Any) -> None:
    torch.manual_seed(0)
    net = AttentionLSTM(6, 8, 5, kind).eval()
    H = torch.randn(1, 10, 6)
    outside = torch.arange(10)[None] >= 7
    told = torch.tensor([[5, 1, 2]])
    short = net.teacher(H[:, :7], outside[:, :7], told)
    H[:, 7:] = 100.0
    long = net.teacher(H, outside, told)
    torch.testing.assert_close(short[0], long[0], atol=1e-5, rtol=1e-5)
    assert (float(long[1]) > 0) == (kind == "coverage")


@torch.no_grad()
def test_a_fresh_localiser_gives_a_picture_of_the_same_size() -> None:
    assert Rectify(20, (32, 100), 1).eval()(torch.rand(2, 1, 32, 100)).shape == (2, 1, 32, 100)


def test_a_vgsl_network_comes_back_from_kraken(tmp_path: Any) -> None:
    from vision.ocr.layouts.kraken import KrakenCodec, KrakenModel, load_kraken
    from vision.ocr.layouts.kraken_write import write_kraken

    net, _ = network("vgsl")
    assert isinstance(net, VGSLLines)
    codec = KrakenCodec({c: (i,) for i, c in enumerate("abcdefgh", 1)})
    about = {"vgsl": net.network.spec}
    write_kraken(tmp_path / "m.safetensors", [KrakenModel("m", ("recognition",), net.network, codec, about)])
    (again,), remarks = load_kraken(tmp_path / "m.safetensors")
    assert remarks == []
    assert again.codec == codec
    line = torch.rand(1, 1, 48, 120)
    with torch.no_grad():
        torch.testing.assert_close(again.network(line)[0], net.network(line)[0])


def test_unknown_settings_are_refused() -> None:
    from core.errors import ConfigError

    with pytest.raises(ConfigError, match="ctc_weight"):
        ModelConfig(ctc_weight=1.0)
    assert Codec.of(["ab"]).size == 3


def test_the_rectifying_network_learns_lines_of_one_size() -> None:
    from core.errors import ConfigError
    from vision.ocr.models.presets import SceneSpeller

    with pytest.raises(ConfigError, match="one size"):
        network("tps")
    torch.manual_seed(0)
    net = SceneSpeller(4, 32, 40)
    ink = torch.rand(2, 1, 32, 40)
    found = net.train().loss(ink, torch.tensor([40, 40]), torch.tensor([[1, 2], [3, 0]]), (2, 1))
    found["loss"].backward()
    assert torch.isfinite(found["loss"])
    assert len(net.eval().spell(ink)) == 2
