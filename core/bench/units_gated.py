"""Gated units on a CPU beside torch.nn and torchrecurrent: training, inference, one step."""

from collections.abc import Callable
from typing import Any

from core.bench.runner import Case

BATCH, TIME = 8, 512
Pair = tuple[Callable[[], Any], Callable[[], Any] | None]


def cases() -> list[Case]:
    """Training and inference of GRU and LSTM, training of the cells that torch.nn lacks, one step of all."""
    found = []
    for width in (128, 256):
        sizes = f"B {BATCH}, T {TIME}, D {width}, float32"
        for name in ("lstm", "gru"):
            found.append(
                Case(
                    f"{name} training",
                    sizes,
                    lambda n=name, w=width: beside_torch(n, w, True),
                    "nn.LSTM",
                    1.1,
                )
            )
            for peer in ("LSTM", "GRU"):
                found.append(
                    Case(
                        f"{name} inference",
                        sizes,
                        lambda n=name, w=width, p=peer: beside_torch(n, w, False, p),
                        f"nn.{peer}",
                        1.0,
                    )
                )
    sizes = f"B {BATCH}, T {TIME}, D 256, float32"
    for name, peer in (("mgu", "MGU"), ("lem", "LEM"), ("indrnn", "IndRNN")):
        found.append(
            Case(
                f"{name} training",
                sizes,
                lambda n=name, p=peer: beside_torchrecurrent(n, p),
                f"torchrecurrent.{peer}",
                1 / 3,
                repeats=5,
            )
        )
    for name in ("rnn", "lstm", "gru", "mgu", "indrnn", "lem", "slstm"):
        found.append(Case(f"{name} step", "B 1, D 128, float32", lambda n=name: one_step(n), limit_us=60))
    return found


def beside_torch(name: str, width: int, training: bool, peer: str = "LSTM") -> Pair:
    """Our unit and a layer of torch.nn on the same tokens."""
    import torch

    import core

    x = torch.randn(BATCH, TIME, width).requires_grad_(training)
    ours = core.build(name, width)
    theirs = getattr(torch.nn, peer)(width, width, batch_first=True)
    run = trained if training else inferred
    return run(ours, x), run(theirs, x)


def beside_torchrecurrent(name: str, peer: str) -> Pair:
    """Our unit and a layer of torchrecurrent; alone where that package is not installed."""
    import torch

    import core

    x = torch.randn(BATCH, TIME, 256).requires_grad_()
    ours = trained(core.build(name, 256), x)
    try:
        import torchrecurrent
    except ImportError:
        return ours, None
    return ours, trained(getattr(torchrecurrent, peer)(256, 256, batch_first=True), x)


def one_step(name: str) -> Pair:
    """One token of one stream."""
    import torch

    import core
    from core.bench.steady import steady_step

    return steady_step(core.build(name, 128), torch.randn(1, 128)), None


def trained(model: Any, x: Any) -> Callable[[], Any]:
    """Forward and backward, parameters and input."""

    def call() -> None:
        model(x)[0].sum().backward()

    return call


def inferred(model: Any, x: Any) -> Callable[[], Any]:
    """Forward without gradients."""
    import torch

    def call() -> Any:
        with torch.no_grad():
            return model(x)

    return call
