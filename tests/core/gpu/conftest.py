"""Without CUDA there is nothing to collect here: the interpreter's tests are in `tests/core/kernels`."""

import torch

collect_ignore = [] if torch.cuda.is_available() else ["test_gpu.py"]
