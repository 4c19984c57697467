"""Published programs beside ours in `recurra bench ocr`: kraken, flashlight-text, in processes of their own.

RECURRA_KRAKEN and RECURRA_FLASHLIGHT name a Python that has them (`python -m venv k; k/bin/pip install
kraken==7.1.1 flashlight-text`). Without a name there is a stand-in, and the row says so. The process reads
its work from a folder, tells "ready", and does all of it once for each line on its stdin.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from core.door import array
from core.errors import ConfigError

SPEC = (
    "[1,120,0,1 Cr3,13,32 Do0.1,2 Mp2,2 Cr3,13,32 Do0.1,2 Mp2,2 Cr3,9,64 Do0.1,2 Mp2,2 "
    "Cr3,9,64 Do0.1,2 S1(1x0)1,3 Lbx200 Do0.1,2 Lbx200 Do0.1,2 Lbx200 Do O1c106]"
)
"""The default recogniser of kraken 7.1.1, with outputs for 105 characters."""
KRAKEN = f"""
import sys
from pathlib import Path
import torch
from PIL import Image
from kraken.lib.ctc_decoder import greedy_decoder
from kraken.lib.dataset import ImageInputTransforms
from kraken.lib.vgsl import TorchVGSLModel
torch.set_num_threads(1)
network = TorchVGSLModel(vgsl={SPEC!r}).eval()
prepare = ImageInputTransforms(1, 120, 0, 1, (16, 0), valid_norm=False)
images = [Image.open(path).convert("L") for path in sorted(Path(sys.argv[1]).glob("*.png"))]
def work():
    with torch.no_grad():
        for image in images:
            logits, _ = network(prepare(image)[None])
            greedy_decoder(logits[0, :, 0].softmax(0).numpy())
"""
FLASHLIGHT = """
import sys
from pathlib import Path
import numpy as np
from flashlight.lib.text import decoder as flashlight
y = np.ascontiguousarray(np.load(Path(sys.argv[1]) / "frames.npy"), np.float32)
options = flashlight.LexiconFreeDecoderOptions(
    beam_size=50, beam_size_token=y.shape[1], beam_threshold=1e9, lm_weight=0.0, sil_score=0.0, log_add=True,
    criterion_type=flashlight.CriterionType.CTC)
beam = flashlight.LexiconFreeDecoder(options, flashlight.ZeroLM(), 1, 0, [])
def work():
    frames = beam.decode(y.ctypes.data, *y.shape)[0].tokens[1:-1]  # without silence around the line
    kept = [int(a) for a, b in zip(frames, [0, *frames]) if a and a != b]
    np.save(Path(sys.argv[1]) / "labels.npy", np.array(kept))
"""
TURNS = """
print("ready", flush=True)
for _ in sys.stdin:
    work()
    print("done", flush=True)
"""


def named(variable: str) -> str | None:
    """The Python that an environment variable names.

    Raises:
        ConfigError: it names no file.
    """
    python = os.environ.get(variable)
    if python and not Path(python).is_file():
        raise ConfigError(f"{variable}={python}: there is no such Python.")
    return python or None


class Peer:
    """A program in another Python; calling it does its work once.

    Raises:
        ConfigError: the program does not start there.
    """

    def __init__(self, python: str, program: str, put: Callable[[Path], None]) -> None:
        self.folder = TemporaryDirectory()
        put(self.place)
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            [python, "-c", program + TURNS, self.folder.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.told("ready", python)

    @property
    def place(self) -> Path:
        return Path(self.folder.name)

    def told(self, word: str, who: str) -> None:
        """Wait for a word, over what libraries print."""
        assert self.process.stdout is not None
        for row in self.process.stdout:
            if row.strip() == word:
                return
        raise ConfigError(f"{who}: the peer ended with code {self.process.wait()} instead of {word}.")

    def __call__(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.told("done", "the bench")

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.folder.cleanup()


def kraken(python: str, greys: list[np.ndarray]) -> Peer:
    """kraken's default recogniser, line preparation to best labels, on grey lines."""

    def put(folder: Path) -> None:
        from PIL import Image

        for number, grey in enumerate(greys):
            Image.fromarray(grey).save(folder / f"{number:04d}.png")

    return Peer(python, KRAKEN, put)


def flashlight(python: str, log_probs: np.ndarray) -> Peer:
    """flashlight-text's beam 50 without a model on log-probabilities (T, V), alignments summed."""

    def put(folder: Path) -> None:
        np.save(folder / "frames.npy", log_probs)

    return Peer(python, FLASHLIGHT, put)


def labels_of(peer: Peer) -> tuple[int, ...]:
    """What flashlight found."""
    place = peer.place / "labels.npy"
    return tuple(array(place.read_bytes(), place).tolist())
