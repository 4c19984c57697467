"""How each reference's tensors map onto ours; one module a reference, imported all at once."""

from importlib import import_module
from pathlib import Path

for module in sorted(Path(__file__).parent.glob("[a-z]*.py")):
    import_module(f"tests.core.golden_adapters.{module.stem}")
