"""The compiled stream equals the units that it stands for."""

import numpy as np
import pytest
import torch

import core
from core.kernels.jit import compiled
from core.kernels.vector_math import exp32, sigmoid32, tanh32
from core.streaming.gru import GRUStream


@pytest.mark.parametrize(("inputs", "hidden", "layers"), [(3, 64, 2), (9, 8, 1), (70, 5, 3), (1, 13, 2)])
def test_windows_and_steps_equal_the_stack(inputs: int, hidden: int, layers: int) -> None:
    net = core.stack("gru", inputs, hidden, layers=layers, residual=False)
    x = torch.randn(2, 17, inputs)
    with torch.no_grad():
        expected, end = net(x)
    stream = GRUStream(net)
    for row in range(2):
        y, state = stream.run(x[row].numpy())
        np.testing.assert_allclose(y, expected[row], atol=2e-6)
        np.testing.assert_allclose(state, torch.stack([part[row] for part in end]), atol=2e-6)
        state, outputs = stream.initial_state(), []
        for token in x[row].numpy():
            out, state = stream.step(token, state)
            outputs.append(out)
        np.testing.assert_allclose(outputs, expected[row], atol=2e-6)


def test_other_stacks_are_refused() -> None:
    for net in (
        core.stack("lstm", 3, 4),
        core.stack("gru", 3, 4, reset="before"),
        core.stack("gru", 3, 4, directions=2),
        core.stack("gru", 4, 4, residual=True),
    ):
        with pytest.raises(ValueError, match="one-directional stacks of reset-after GRUs"):
            GRUStream(net)


def test_functions_are_exact_to_float32_everywhere() -> None:
    @compiled
    def apply(x, e, s, t):  # noqa: ANN001, ANN202
        for i in range(x.shape[0]):
            e[i] = exp32(x[i])
        for i in range(x.shape[0]):
            s[i] = sigmoid32(x[i])
        for i in range(x.shape[0]):
            t[i] = tanh32(x[i])

    x = np.concatenate([np.linspace(-86, 86, 100_001), [0.0, 1e-8, -1e-8]]).astype(np.float32)
    e, s, t = (np.empty_like(x) for _ in range(3))
    apply(x, e, s, t)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(e, np.exp(wide), rtol=3e-7)
    np.testing.assert_allclose(s, 1 / (1 + np.exp(-wide)), rtol=5e-7)
    np.testing.assert_allclose(t, np.tanh(wide), atol=3e-7)
    x = np.array([np.nan, np.inf, -np.inf, 200, -200] * 7, np.float32)
    e, s, t = (np.empty_like(x) for _ in range(3))
    apply(x, e, s, t)
    assert np.isnan(e[0::5]).all()
    assert np.isnan(s[0::5]).all()
    assert np.isnan(t[0::5]).all()
    np.testing.assert_allclose(s[1:5], [1, 0, 1, 0], atol=1e-30)
    np.testing.assert_allclose(t[1:5], [1, -1, 1, -1])
