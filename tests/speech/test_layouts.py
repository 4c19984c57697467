"""Published checkpoints: wrappings, several files, what is missing, and files that would run code."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from core.errors import ConfigError, WeightsError
from speech.layouts import build, import_files, load_published, our_name, published_name
from speech.model import load_model

SMALL = ["N=8", "layers=1", "nhead=2", "d_ffn=8", "num_layers=1", "K=10"]


def published(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {published_name(name): tensor for name, tensor in network.state_dict().items()}


def test_a_tar_of_gtcrn_becomes_weights_that_enhance(tmp_path: Path) -> None:
    network = build("gtcrn", {}).eval()
    state = {f"module.{name}": tensor for name, tensor in published(network).items()}
    torch.save({"epoch": 3, "optimizer": {}, "model": state}, tmp_path / "a.tar")
    import_files([tmp_path / "a.tar"], "gtcrn", [], tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    wave = 0.1 * torch.randn(1, 4000)
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(wave), network(wave))


def test_three_files_make_one_network(tmp_path: Path) -> None:
    network = build(
        "speechbrain-sepformer", {"N": 8, "layers": 1, "nhead": 2, "d_ffn": 8, "num_layers": 1, "K": 10}
    )
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in published(network).items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    files = [tmp_path / f"{part}.ckpt" for part in parts]
    for file in files:
        torch.save(parts[file.stem], file)
    import_files(files, "speechbrain-sepformer", SMALL, tmp_path / "a.safetensors")
    assert load_model(tmp_path / "a.safetensors", "separate").talkers == 2
    with pytest.raises(WeightsError, match="missing"):
        import_files(files[:2], "speechbrain-sepformer", SMALL, tmp_path / "b.safetensors")
    assert not (tmp_path / "b.safetensors").exists()


def test_what_is_missing_or_left_over_is_named() -> None:
    network = build("gtcrn", {})
    state = published(network)
    gone = next(name for name in state if name.endswith("att_fc.weight"))
    with pytest.raises(WeightsError, match="att_fc"):
        load_published(network, {name: tensor for name, tensor in state.items() if name != gone})
    with pytest.raises(WeightsError, match="strange"):
        load_published(network, {**state, "strange": torch.zeros(1)})


def test_names_go_both_ways() -> None:
    assert our_name("a.rnn.weight_ih_l0_reverse") == "a.rnn.units.1.weight_ih"
    assert published_name("a.rnn.units.1.weight_ih") == "a.rnn.weight_ih_l0_reverse"
    assert our_name("module.unet.encoders.0.bn.bn_re.weight") == "unet.encoder0.bn.bn_re.weight"
    assert our_name("unet.se_layers_enc.3.fc_r.0.bias") == "unet.se_layer_enc3.fc_r.0.bias"


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "a.pth").write_bytes(pickle.dumps({"model": Hostile()}))
    with pytest.raises(WeightsError):
        import_files([tmp_path / "a.pth"], "gtcrn", [], tmp_path / "a.safetensors")
    assert not (tmp_path / "ran").exists()


def test_unknown_layouts_and_words_are_named() -> None:
    with pytest.raises(ConfigError, match="there is gtcrn"):
        build("gtcrm", {})
    with pytest.raises(ConfigError, match="kernels"):
        build("asteroid-dprnn", {"kernels": 3})
