"""The published network: its layout, its two alignments, and files that do not fit."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from apps.trajectory.features import Normalisation
from apps.trajectory.models.vector import Vector, VectorPredictor, from_state, load_published
from core.errors import WeightsError


class Reference(nn.Module):
    """The same network on torch.nn, for names and numbers."""

    def __init__(self, dims: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.gru1 = nn.GRU(dims, hidden, layers, batch_first=True)
        self.gru2 = nn.GRU(hidden, hidden, layers, batch_first=True)
        self.fc = nn.Linear(hidden, dims)

    def forward(self, x: torch.Tensor, horizon: int) -> torch.Tensor:
        _, state = self.gru1(x)
        return self.fc(self.gru2(x.new_zeros(len(x), horizon, self.fc.in_features), state)[0])


@pytest.fixture
def reference() -> Reference:
    torch.manual_seed(0)
    return Reference(3, 8, 2).double()


@pytest.mark.parametrize("horizon", [1, 10, 23])
def test_a_torch_state_dict_gives_the_same_output_at_any_horizon(reference: Reference, horizon: int) -> None:
    x = torch.randn(4, 20, 3, dtype=torch.float64)
    network = from_state({name: tensor for name, tensor in reference.state_dict().items()}).double()
    network.load_state_dict({name: tensor for name, tensor in network.state_dict().items()})
    ours = network(x, horizon)
    torch.testing.assert_close(ours, reference(x, horizon), atol=1e-6, rtol=0)


def test_the_published_sizes_have_the_published_number_of_parameters() -> None:
    counts = [sum(p.numel() for p in Vector(3, *size).parameters()) for size in ((64, 2), (128, 3), (256, 5))]
    assert counts == [88_323, 546_819, 3_753_987]


def write(
    folder: Path, reference: Reference, name: str = "mix_vel_white_norm_8_2_0p5.pth"
) -> tuple[Path, Path]:
    torch.save(reference.float().state_dict(), folder / name)
    covariance = np.diag([4.0, 1.0, 0.25])
    np.savez(
        folder / "stats.npz",
        input_mean=np.zeros(3),
        input_std=np.ones(3),
        cov_matrix=covariance,
        L_matrix=np.linalg.cholesky(np.linalg.inv(covariance)),
        max_velocity=20.0,
    )
    return folder / name, folder / "stats.npz"


def test_published_files_load_and_predict_whatever_the_origin(tmp_path: Path, reference: Reference) -> None:
    model = load_published(*write(tmp_path, reference))
    past = torch.randn(5, 21, 3, dtype=torch.float64).cumsum(1)
    near, far = model(past).mean, model(past + 1e6).mean - 1e6
    assert near.shape == (5, 10, 3)
    torch.testing.assert_close(near, far, atol=1e-4, rtol=0)


def test_compat_reads_twenty_positions_and_repeats_the_last_velocity(reference: Reference) -> None:
    network = from_state(dict(reference.float().state_dict()))
    past = torch.randn(2, 21, 3, dtype=torch.float64)
    model = VectorPredictor(network, Normalisation("max", maximum=1.0), "velocity", compat=True)
    seen = model.inputs(past)
    torch.testing.assert_close(seen[:, -1], seen[:, -2])
    torch.testing.assert_close(seen[:, 0], (past[:, 2] - past[:, 1]) / 0.1)
    assert seen.shape == (2, 20, 3)


def test_a_name_that_tells_no_normalisation_asks_for_it(tmp_path: Path, reference: Reference) -> None:
    weights, stats = write(tmp_path, reference, "best.pth")
    with pytest.raises(WeightsError, match="neither max nor white"):
        load_published(weights, stats)
    assert load_published(weights, stats, normalisation="max").normalisation.maximum == 20.0


def test_weights_of_another_network_are_named(reference: Reference) -> None:
    state = dict(reference.state_dict())
    state["gru2.weight_hh_l1"] = state["gru2.weight_hh_l1"][:, :4]
    with pytest.raises(WeightsError, match=r"gru2.units.1.weight_hh is \(24, 4\) in the file, \(24, 8\)"):
        from_state(state)
    del state["gru2.weight_hh_l1"]
    with pytest.raises(WeightsError, match="missing"):
        from_state(state)
    with pytest.raises(WeightsError, match="no VECTOR weights"):
        from_state({"weight": torch.zeros(1)})


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half"])
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, reference: Reference, content: bytes) -> None:
    weights, stats = write(tmp_path, reference)
    weights.write_bytes(content)
    with pytest.raises(WeightsError, match="mix_vel_white"):
        load_published(weights, stats)


def npy(shape: str, count: int) -> bytes:
    """A .npy file whose header claims a shape, with `count` numbers."""
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(8 * count)


@pytest.mark.parametrize(
    ("stats", "message"),
    [
        ({"max_velocity": np.array([])}, "max_velocity is empty or not finite"),
        ({"max_velocity": np.array([np.nan])}, "max_velocity is empty or not finite"),
        ({"max_velocity": np.array([-1.0])}, "max_velocity must be positive"),
        ({"max_velocity": npy("(1000000000000,)", 1)}, "not a statistics file"),
        (
            {"max_velocity": 1.0, "input_mean": np.zeros(5), "L_matrix": np.eye(5)},
            "whitening of 5 coordinates",
        ),
        ({"max_velocity": 1.0, "input_mean": np.zeros(3), "L_matrix": np.eye(5)}, r"L_matrix is \(5, 5\)"),
    ],
)
def test_statistics_that_nobody_measured_are_refused(
    tmp_path: Path, reference: Reference, stats: dict[str, Any], message: str
) -> None:
    kind = "white" if "L_matrix" in stats else "max"
    torch.save(reference.state_dict(), tmp_path / f"{kind}.pth")
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        for name, value in stats.items():
            buffer = io.BytesIO()
            np.save(buffer, value) if not isinstance(value, bytes) else buffer.write(value)
            archive.writestr(f"{name}.npy", buffer.getvalue())
    with pytest.raises(WeightsError, match=message):
        load_published(tmp_path / f"{kind}.pth", tmp_path / "s.npz")
