"""Building and running any unit imports torch, numpy, numba and safetensors, and what those need: no more."""

import subprocess
import sys

PROGRAM = """
import sys
import torch, numba, safetensors, numpy.f2py
numba.njit(lambda: None)()  # looks for cffi by itself
torch.nn.Linear(1, 1)(torch.ones(1, 1)).sum().backward()
from torch.fx.experimental.proxy_tensor import make_fx
make_fx(lambda x: x + 1)(torch.ones(1))
before = {name.partition(".")[0] for name in sys.modules}
import core
for name in core.unit_names():
    unit = core.build(name, 8)
    y, state = unit(torch.randn(1, 3, 8))
    y.sum().backward()
    with torch.no_grad():
        unit.step(torch.randn(1, 8), state)
net = core.stack("gru", 8, layers=3)
net(torch.randn(2, 3, 8), lengths=torch.tensor([2, 3]))
core.streaming.open(net).step(torch.randn(1, 8))
after = {name.partition(".")[0] for name in sys.modules} - before - set(sys.stdlib_module_names)
known = {"core", "numpy", "llvmlite"}
print(*sorted(name for name in after - known if not name.startswith("_")))
"""


def test_units_need_nothing_else() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
