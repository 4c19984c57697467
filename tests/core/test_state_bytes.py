"""States as rows of a store."""

import pytest
import torch

from core.errors import DataError
from core.state import from_bytes, rows, rows_from_bytes, rows_to_bytes, tensors, to_bytes

STATES = {
    "tensor": torch.randn(3, 4),
    "nested": (torch.randn(2, 3), (torch.arange(6).view(2, 3), torch.randn(2, 2, 2, dtype=torch.float64))),
    "complex": torch.randn(2, 3, dtype=torch.complex64),
    "half": (torch.randn(2, 5).bfloat16(), torch.tensor([True, False])),
    "empty": (torch.zeros(0, 4), ()),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_comes_back_bit_for_bit(name: str) -> None:
    state = STATES[name]
    again = from_bytes(to_bytes(state), like=state)
    pairs = list(zip(tensors(state), tensors(again), strict=True))
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
    assert to_bytes(again) == to_bytes(state)


def test_every_damaged_byte_is_noticed() -> None:
    row = to_bytes(STATES["nested"])
    for place in range(len(row)):
        broken = bytearray(row)
        broken[place] ^= 1
        with pytest.raises(DataError):
            from_bytes(bytes(broken))


@pytest.mark.parametrize("name", ["tensor", "nested", "complex", "half"])
def test_rows_of_a_batch_are_those_of_one_at_a_time(name: str) -> None:
    state = STATES[name]
    one = rows(state, slice(0, 1))
    found = rows_to_bytes(state)
    assert found == [to_bytes(rows(state, slice(n, n + 1))) for n in range(len(found))]
    again = rows_from_bytes(found, one)
    pairs = list(zip(tensors(state), tensors(again), strict=True))
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
    with pytest.raises(DataError, match="damaged"):
        rows_from_bytes([found[0], found[1][:-1] + bytes([found[1][-1] ^ 1])], one)
    with pytest.raises(DataError, match="another network"):
        rows_from_bytes([to_bytes(torch.zeros(1, 9))], one)


@pytest.mark.parametrize(
    "row",
    [b"", b"RST1", b"junk that is long enough", to_bytes(STATES["tensor"])[:-1]],
    ids=["empty", "short", "foreign", "cut"],
)
def test_foreign_and_cut_rows_are_refused(row: bytes) -> None:
    with pytest.raises(DataError):
        from_bytes(row)


def test_the_state_of_another_network_is_refused() -> None:
    with pytest.raises(DataError, match="another network"):
        from_bytes(to_bytes(torch.zeros(1, 4)), like=torch.zeros(1, 5))
