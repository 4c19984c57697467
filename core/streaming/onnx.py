"""Step a unit or stack without torch's overhead per operator: its one-step graph, run by onnxruntime.

    streamer = Streamer(core.build("mamba", 128))
    for x in source:           # (B, I) float32
        y = streamer.step(x)   # (B, H)

An eager step pays some microseconds for each of its many small operators; compiling it with torch.compile
adds more in guards than it saves. One graph call pays once. The state lives in the streamer; `state` reads
and sets it, so that a stream can be moved, saved or branched.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from core.export import export_step, rebuild
from core.state import shapes, tensors


class Streamer:
    """x (B, I) -> y (B, H), one call a token, float32, on the CPU.

    Raises:
        MissingExtraError: the extra `export` is not installed.
        ConfigError: the unit has operators that ONNX does not have.
    """

    def __init__(self, unit: Any, batch: int = 1, threads: int = 1) -> None:
        import onnxruntime

        with TemporaryDirectory() as folder:
            path = Path(folder) / "step.onnx"
            export_step(unit, path)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = threads
            options.log_severity_level = 3
            self.session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        self.initial = unit.initial_state(torch.zeros(batch, 1, unit.input_size))
        self.known = [value.name for value in self.session.get_inputs()]
        self.names = [f"state{index}" for index in range(len(list(tensors(self.initial))))]
        self.shape = (batch, unit.input_size)
        self.reset()

    def reset(self) -> None:
        """Back to before the first token."""
        self.state = self.initial

    @property
    def state(self) -> Any:
        """The unit's own state: a tensor or nested tuple of tensors."""
        return rebuild(self.initial, iter([torch.from_numpy(part) for part in self.parts]))

    @state.setter
    def state(self, state: Any) -> None:
        if shapes(state) != shapes(self.initial):
            raise ValueError(f"this stream has a state of shape {shapes(self.initial)}, got {shapes(state)}")
        self.parts = [np.array(part.detach().cpu().numpy()) for part in tensors(state)]

    def step(self, x: Any) -> np.ndarray:
        """Advance one token, an array or a tensor.

        Raises:
            ValueError: another shape than (B, I).
        """
        x = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
        if x.shape != self.shape:
            raise ValueError(f"this stream takes x of shape {self.shape}, got {x.shape}")
        feed = dict(zip(self.names, self.parts, strict=True))
        feed["x"] = x.astype(np.float32, copy=False)
        found: Any = self.session.run(None, {name: feed[name] for name in self.known})
        y, *self.parts = found
        return y
