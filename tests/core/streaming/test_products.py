"""Products outside of torch are those of NumPy, whatever rows and inputs blocks leave over."""

import numpy as np
import pytest

from core.streaming.products import add_product, add_products, row_product


@pytest.mark.parametrize("rows", [1, 3, 4, 9])
@pytest.mark.parametrize("inputs", [1, 4, 13])
def test_rows_are_multiplied_whatever_is_left_over(rows: int, inputs: int) -> None:
    random = np.random.default_rng(rows * inputs)
    x, w, b = (random.standard_normal(shape).astype(np.float32) for shape in ((rows, inputs), (inputs, 7), 7))
    wanted = b + x @ w
    found = np.tile(b, (rows, 1))
    add_products(x, w, found)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    row_product(x, w, b, found)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    one = b.copy()
    add_product(x[0], w, one)
    np.testing.assert_allclose(one, wanted[0], atol=1e-5)
