import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.testing import assert_close

from core.kernels.linear_scan import chunked as linear_scan_chunked
from core.kernels.linear_scan import cpu as linear_scan_numba
from core.kernels.linear_scan import linear_scan, scan, scan_backward
from core.kernels.linear_scan.definition import linear_scan_ref

BACKENDS = [linear_scan_chunked, linear_scan_numba]
NUMBERS = [torch.float64, torch.complex128]
SHAPES = [(1, 1, 1), (2, 7, 3), (3, 64, 5), (2, 101, 17), (2, 0, 3), (0, 4, 3)]


def sample(batch: int, time: int, width: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(batch + 10 * time + 100 * width)
    a = 0.7 * torch.randn(batch, time, width, dtype=dtype, generator=generator)
    x = torch.randn(batch, time, width, dtype=dtype, generator=generator)
    return a, x, torch.randn(batch, width, dtype=dtype, generator=generator)


def gradients(function, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:  # noqa: ANN001
    leaves = [part.clone().requires_grad_() for part in inputs]
    h = function(*leaves)
    weight = torch.randn(h.shape, dtype=h.dtype, generator=torch.Generator().manual_seed(0))
    return torch.autograd.grad((h * weight).real.sum() if h.is_complex() else (h * weight).sum(), leaves)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_equals_the_plain_loop(backend, shape, dtype) -> None:  # noqa: ANN001
    a, x, h0 = sample(*shape, dtype)
    h = backend.forward(a, x, h0)
    assert_close(h, linear_scan_ref(a, x, h0))
    if x.numel():
        grad = torch.randn_like(h)
        leaves = [part.clone().requires_grad_() for part in (a, x, h0)]
        expected = torch.autograd.grad(linear_scan_ref(*leaves), leaves, grad)
        assert_close(backend.backward(a, h, h0, grad), expected)


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_equal_those_of_the_plain_loop(shape, dtype) -> None:  # noqa: ANN001
    inputs = sample(*shape, dtype)
    if shape[1]:
        assert_close(gradients(linear_scan, inputs), gradients(linear_scan_ref, inputs))
    else:
        assert not any(part.any() for part in gradients(linear_scan, inputs))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_first_and_second_derivatives_are_right(dtype) -> None:  # noqa: ANN001
    inputs = tuple(part.requires_grad_() for part in sample(2, 5, 3, dtype))
    assert gradcheck(linear_scan, inputs)
    assert gradgradcheck(linear_scan, inputs)


@pytest.mark.parametrize("dtype", NUMBERS)
def test_third_derivatives_equal_those_of_the_plain_loop(dtype) -> None:  # noqa: ANN001
    def third(function) -> tuple[Tensor, ...]:  # noqa: ANN001
        leaves = [part.clone().requires_grad_() for part in sample(2, 4, 3, dtype)]
        total = function(*leaves).abs().pow(3).sum()
        for _ in range(2):
            total = sum(g.abs().square().sum() for g in torch.autograd.grad(total, leaves, create_graph=True))
        return torch.autograd.grad(total, leaves)

    assert_close(third(linear_scan), third(linear_scan_ref))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_forward_mode_derivatives_are_right(dtype) -> None:  # noqa: ANN001
    inputs = tuple(part.requires_grad_() for part in sample(2, 5, 3, dtype))
    assert gradcheck(linear_scan, inputs, check_forward_ad=True)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(inputs[1].detach(), torch.ones_like(inputs[1]))
        tangent = forward_ad.unpack_dual(linear_scan(inputs[0].detach(), dual)).tangent
    assert_close(tangent, linear_scan(inputs[0], torch.ones_like(inputs[0])).detach())


def test_function_transforms_work() -> None:
    a, x, h0 = sample(2, 6, 3)
    gradient = torch.func.grad(lambda x: linear_scan(a, x, h0).sum())(x)
    assert_close(gradient, torch.autograd.functional.vjp(lambda x: linear_scan_ref(a, x, h0).sum(), x)[1])
    many = torch.func.vmap(lambda x: linear_scan(a, x, h0))(torch.stack([x, 2 * x]))
    assert_close(many[1], linear_scan(a, 2 * x, h0))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own
@pytest.mark.parametrize("dtype", NUMBERS)
def test_operators_keep_the_promises_of_torch(dtype) -> None:  # noqa: ANN001
    inputs = tuple(part.requires_grad_() for part in sample(2, 5, 3, dtype))
    torch.library.opcheck(scan, inputs)
    a, x, h0 = inputs
    torch.library.opcheck(scan_backward, (a, x, h0, torch.randn_like(x)))


def test_a_module_with_a_scan_can_be_exported() -> None:
    class Smoother(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return linear_scan(x.sigmoid(), x)

    _, x, _ = sample(2, 7, 3)
    time = torch.export.Dim("T", min=2, max=100)
    program = torch.export.export(Smoother(), (x,), dynamic_shapes={"x": {1: time}})
    longer = torch.cat([x, x], 1)
    assert_close(program.module()(longer), Smoother()(longer))


def test_compiling_keeps_one_graph_and_its_gradient() -> None:
    inputs = sample(2, 7, 3)
    compiled = torch.compile(linear_scan, fullgraph=True, backend="aot_eager")
    assert_close(gradients(compiled, inputs), gradients(linear_scan, inputs))


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_repeated_and_conjugate_input_is_fine(backend) -> None:  # noqa: ANN001
    a, x, h0 = sample(3, 8, 4, torch.complex128)
    views = {
        "transposed": x.transpose(0, 1).contiguous().transpose(0, 1),
        "half of a projection": torch.cat([x, x], -1).chunk(2, -1)[1],
        "every second feature": x.repeat_interleave(2, -1)[..., ::2],
        "constant over time": x[:, :1].expand_as(x),
        "constant over all but features": x[0, 0].expand_as(x),
        "one number": x[0, 0, 0].expand_as(x),
        "conjugate": x.conj(),
        "negative imaginary": x.conj().imag.mul(1j),
    }
    for name, view in views.items():
        plain = view.resolve_conj().resolve_neg().contiguous()
        expected = backend.forward(plain, plain, h0)
        assert_close(backend.forward(view, view, h0.conj().resolve_conj().conj()), expected, msg=name)
        h = backend.forward(a, x, h0)
        assert_close(backend.backward(view, h, h0, view), backend.backward(plain, h, h0, plain), msg=name)


def test_pieces_with_a_state_equal_the_whole() -> None:
    a, x, h0 = sample(2, 9, 3)
    head = linear_scan(a[:, :4], x[:, :4], h0)
    tail = linear_scan(a[:, 4:], x[:, 4:], head[:, -1])
    assert_close(torch.cat([head, tail], 1), linear_scan(a, x, h0))


def test_no_start_means_zero() -> None:
    a, x, h0 = sample(2, 9, 3)
    assert_close(linear_scan(a, x), linear_scan(a, x, torch.zeros_like(h0)))


def test_decays_of_zero_are_resets_and_long_products_may_vanish() -> None:
    a, x, h0 = sample(1, 4000, 2)
    a = a.abs().clamp(max=0.9)
    a[:, 2000] = 0
    for backend in BACKENDS:
        h = backend.forward(a, x, h0)
        assert_close(h[:, 2000], x[:, 2000])
        assert_close(h, linear_scan_ref(a, x, h0))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_poisons_only_what_comes_after_it_in_its_feature(backend) -> None:  # noqa: ANN001
    a, x, h0 = sample(2, 40, 20)
    x[1, 5, 3] = torch.nan
    h = backend.forward(a, x, h0)
    assert h[1, 5:, 3].isnan().all()
    h[1, 5:, 3] = 0
    assert h.isfinite().all()


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(half) -> None:  # noqa: ANN001
    a, x, h0 = (part.to(half) for part in sample(2, 200, 3))
    h = linear_scan(a, x, h0)
    assert h.dtype == half
    assert_close(h, linear_scan(a.float(), x.float(), h0.float()).to(half), rtol=0, atol=0)


def test_types_are_promoted_as_in_arithmetic() -> None:
    a, x, h0 = sample(2, 9, 3)
    z = torch.polar(a.abs(), x)
    assert_close(linear_scan(z, x.float(), h0), linear_scan_ref(z, x.float().to(z.dtype), h0.to(z.dtype)))
    assert linear_scan(a.float(), x.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(8, 128, 256), (1, 512, 512), (3, 700, 128)])
def test_several_threads_give_the_same_numbers(shape) -> None:  # noqa: ANN001
    a, x, h0 = sample(*shape, torch.float32)
    grad, threads = torch.randn_like(x), torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            h = linear_scan_numba.forward(a, x, h0)
            results.append((h, *linear_scan_numba.backward(a, h, h0, grad)))
    finally:
        torch.set_num_threads(threads)
    assert_close(results[0], results[1], rtol=0, atol=0)


def test_wrong_shapes_and_types_are_named() -> None:
    a, x, h0 = sample(2, 9, 3)
    with pytest.raises(ValueError, match=r"one shape \(B, T, D\), got \(2, 8, 3\) and \(2, 9, 3\)"):
        linear_scan(a[:, 1:], x)
    with pytest.raises(ValueError, match=r"h0 of shape \(2, 3\) = \(B, D\), got \(1, 3\)"):
        linear_scan(a, x, h0[:1])
    with pytest.raises(ValueError, match=r"floating-point or complex numbers, got torch.int64"):
        linear_scan(a.long(), x.long())


def test_memory_for_the_backward_pass_is_the_decays_and_the_states() -> None:
    a, x, h0 = (part.requires_grad_() for part in sample(2, 64, 16))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        linear_scan(a, x, h0)
    assert sum(kept) == 2 * x.numel() + h0.numel()


def run_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[3],
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WITHOUT_NUMBA_THEN_WITHOUT_A_CACHE = """
import sys
sys.modules["numba"] = None
import torch
from core.kernels.choice import version
from core.kernels.linear_scan import linear_scan
x = torch.ones(1, 3, 2, requires_grad=True)
h = linear_scan(torch.ones(1, 3, 2), x)
assert version("core.kernels.linear_scan", "cpu") is None
print(h[0, :, 0].tolist(), torch.autograd.grad(h.sum(), x)[0][0, :, 0].tolist())

del sys.modules["numba"]
version.cache_clear()
from numba.core import caching
caching.CacheImpl._locator_classes = []
print(linear_scan(torch.ones(1, 3, 2), torch.ones(1, 3, 2))[0, :, 0].tolist())
assert version("core.kernels.linear_scan", "cpu") is not None
"""


def test_machines_without_numba_or_without_a_writable_cache_compute_too() -> None:
    said = run_python(WITHOUT_NUMBA_THEN_WITHOUT_A_CACHE).splitlines()
    assert said == ["[1.0, 2.0, 3.0] [3.0, 2.0, 1.0]", "[1.0, 2.0, 3.0]"]
