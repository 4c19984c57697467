"""The container: what it adds to a unit, checked against doing it by hand."""

import pytest
import torch
from torch import Tensor

import core
from core.errors import ConfigError


def sample(batch: int = 3, time: int = 9, width: int = 5) -> Tensor:
    return torch.randn(batch, time, width, dtype=torch.float64)


def test_layers_feed_each_other_and_directions_are_joined() -> None:
    net, x = core.stack("min_gru", 5, 6, layers=2, directions=2).double(), sample()
    y, state = net(x)
    forward, backward = net.units[0], net.units[1]
    middle = torch.cat([forward(x)[0], backward(x.flip(1))[0].flip(1)], -1)
    upper = torch.cat([net.units[2](middle)[0], net.units[3](middle.flip(1))[0].flip(1)], -1)
    torch.testing.assert_close(y, upper)
    assert len(state) == 4
    assert y.shape == (3, 9, 12)


@pytest.mark.parametrize(
    ("merge", "by_hand"),
    [
        ("sum", lambda a, b: a + b),
        ("mean", lambda a, b: (a + b) / 2),
        ("product", lambda a, b: a * b),
    ],
)
def test_directions_merge_as_asked(merge: str, by_hand: object) -> None:
    net, x = core.stack("min_gru", 5, directions=2, merge=merge).double(), sample()
    a, b = net.units[0](x)[0], net.units[1](x.flip(1))[0].flip(1)
    torch.testing.assert_close(net(x)[0], by_hand(a, b))  # type: ignore[operator]


def test_residual_adds_the_input_of_each_layer() -> None:
    net, x = core.stack("min_gru", 5, layers=2, residual=True).double(), sample()
    first = x + net.units[0](x)[0]
    torch.testing.assert_close(net(x)[0], first + net.units[1](first)[0])


def test_dropout_acts_between_layers_in_training_only() -> None:
    net, x = core.stack("min_gru", 5, layers=2, dropout=0.5).double(), sample()
    assert not torch.equal(net(x)[0], net(x)[0])
    net.eval()
    assert torch.equal(net(x)[0], net(x)[0])
    single = core.stack("min_gru", 5, dropout=0.5).double()
    assert torch.equal(single(x)[0], single(x)[0])


def test_streaming_equals_the_whole_sequence() -> None:
    net, x = core.stack("min_gru", 5, 5, layers=3, residual=True).double(), sample()
    whole, end = net(x)
    state, outputs = net.initial_state(x), []
    for token in x.unbind(1):
        y, state = net.step(token, state)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs, 1), whole)
    torch.testing.assert_close(state, end)


def test_gradients_do_not_leak_across_a_reset() -> None:
    net, x = core.stack("min_gru", 5).double(), sample().requires_grad_()
    reset = torch.zeros(3, 9, dtype=torch.bool)
    reset[:, 4] = True
    (gradient,) = torch.autograd.grad(net(x, reset=reset)[0][:, 4:].sum(), x)
    assert not gradient[:, :4].any()
    assert gradient[:, 4:].any()


def test_resets_and_lengths_and_masks_combine() -> None:
    net, x = core.stack("min_gru", 5, directions=2).double(), sample(batch=2)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, [2, 3]] = False
    mask[1, 7:] = False
    reset = torch.zeros(2, 9, dtype=torch.bool)
    reset[0, 3] = True  # at a masked token: takes effect at the next one
    reset[1, 5] = True
    y, _ = net(x, mask=mask, reset=reset)
    torch.testing.assert_close(y[0, :2], net(x[:1, :2])[0][0])
    torch.testing.assert_close(y[0, 4:], net(x[:1, 4:])[0][0])
    torch.testing.assert_close(y[1, 5:7], net(x[1:, 5:7])[0][0])
    by_length, _ = net(x[1:], lengths=torch.tensor([7]), reset=reset[1:])
    torch.testing.assert_close(y[1:], by_length)


def test_wrong_words_are_named() -> None:
    net, x = core.stack("min_gru", 5), sample().float()
    with pytest.raises(ValueError, match=r"lengths must be in 0\.\.9, got \[3, 10, 1\]"):
        net(x, lengths=torch.tensor([3, 10, 1]))
    with pytest.raises(ValueError, match="lengths must be 3 integers"):
        net(x, lengths=torch.tensor([3.0, 1, 1]))
    with pytest.raises(ValueError, match="lengths or a mask, not both"):
        net(x, lengths=torch.tensor([3, 1, 1]), mask=torch.ones(3, 9))
    with pytest.raises(ValueError, match=r"mask must be of shape \(3, 9\)"):
        net(x, mask=torch.ones(3, 8))
    with pytest.raises(ValueError, match="reset must be of shape"):
        net(x, reset=torch.ones(3, 8))
    with pytest.raises(ValueError, match="state is a tuple of 1"):
        net(x, (x, x))
    with pytest.raises(ValueError, match="reads the future"):
        core.stack("min_gru", 5, directions=2).step(x[:, 0], ())
    with pytest.raises(ConfigError, match="no unit 'mingruu'; did you mean"):
        core.stack("mingruu", 5)
    with pytest.raises(ConfigError, match="unexpected keyword argument 'colour'"):
        core.stack("min_gru", 5, colour=1)
    for wrong in ({"layers": 0}, {"directions": 3}, {"dropout": 1.0}, {"merge": "xor"}):
        with pytest.raises(ConfigError):
            core.stack("min_gru", 5, **wrong)  # type: ignore[arg-type]
