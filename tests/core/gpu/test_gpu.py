"""The proofs on a GPU, where there is one; `python -m tests.core.gpu` prints their figures."""

import pytest
import torch

from tests.core.gpu.proofs import proofs

PROOFS = proofs()


@pytest.mark.gpu
@pytest.mark.parametrize("name", PROOFS)
def test_holds_on_a_gpu(name: str) -> None:
    torch.manual_seed(0)
    wrong = [line for line in PROOFS[name]("cuda") if not line[1] <= line[2]]
    assert not wrong
