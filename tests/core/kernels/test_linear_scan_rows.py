"""A scan that is told where rows begin equals one scan a row; packing and its way back are exact."""

import pytest
import torch

from core.kernels.linear_scan import linear_scan_ref
from core.kernels.linear_scan.rows import by_padding, linear_scan_rows
from core.parts.packed import Packed, packed

LENGTHS = [3, 1, 0, 7]


def given(dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(0)
    a = torch.rand(11, 5, dtype=torch.float64)
    x, h0 = torch.randn(11, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    if dtype.is_complex:
        a = torch.polar(a, torch.randn(11, 5, dtype=torch.float64))
    return [part.to(dtype).requires_grad_() for part in (a, x, h0)]


def row_by_row(a: torch.Tensor, x: torch.Tensor, h0: torch.Tensor) -> torch.Tensor:
    parts = zip(a.split(LENGTHS), x.split(LENGTHS), h0.split(1), strict=True)
    return torch.cat([linear_scan_ref(a[None], x[None], h)[0] for a, x, h in parts])


@pytest.mark.parametrize("compute", [linear_scan_rows, by_padding])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64])
def test_rows_equal_one_scan_a_row(compute, dtype) -> None:  # noqa: ANN001
    parts = given(dtype)
    h, expected = compute(*parts, LENGTHS), row_by_row(*parts)
    torch.testing.assert_close(h, expected)
    weights = torch.randn_like(expected)
    found = torch.autograd.grad((h * weights).real.sum(), parts)
    for one, other in zip(found, torch.autograd.grad((expected * weights).real.sum(), parts), strict=True):
        torch.testing.assert_close(one, other)


def test_second_derivatives_are_right() -> None:
    assert torch.autograd.gradgradcheck(
        lambda *parts: linear_scan_rows(*parts, LENGTHS), given(torch.float64)
    )


def test_a_repeated_decay_is_read_where_it_lies() -> None:
    _, x, h0 = given(torch.float64)
    a = torch.rand(5, dtype=torch.float64, requires_grad=True)
    h = linear_scan_rows(a.expand_as(x), x, h0, LENGTHS)
    expected = row_by_row(a.expand_as(x), x, h0)
    torch.testing.assert_close(h, expected)
    torch.testing.assert_close(torch.autograd.grad(h.sum(), a), torch.autograd.grad(expected.sum(), a))


def test_what_does_not_fit_is_named() -> None:
    a, x, h0 = given(torch.float32)
    with pytest.raises(ValueError, match="lengths sum to 10, there are 11 tokens"):
        linear_scan_rows(a, x, h0, [3, 1, 0, 6])
    with pytest.raises(ValueError, match=r"h0 \(3, D\)"):
        linear_scan_rows(a, x, h0, [3, 1, 7])


def test_tokens_come_back_to_their_places_and_padding_is_zero() -> None:
    x = torch.full((4, 7, 2), torch.nan)
    for row, length in enumerate(LENGTHS):
        x[row, :length] = torch.randn(length, 2)
    x.requires_grad_()
    rows = packed(x, torch.tensor(LENGTHS))
    assert rows is not None
    tokens = rows.pack(x)
    assert bool(tokens.isfinite().all())
    back = rows.unpack(tokens.square())
    torch.testing.assert_close(back, x.detach().square().nan_to_num())
    (grad,) = torch.autograd.grad(back.sum(), x)
    torch.testing.assert_close(grad, 2 * x.detach().nan_to_num())
    start = torch.full((4, 2), 9.0)
    torch.testing.assert_close(rows.last(tokens, start), torch.stack([x[0, 2], x[1, 0], start[2], x[3, 6]]))
    assert packed(x, None) is None
    assert packed(x, torch.zeros(4, dtype=torch.long)) is None
    assert Packed([2, 3], 3).begins == [0, 2]
