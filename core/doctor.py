"""Is this machine ready: versions, threads, GPU, optional packages and how to get them."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from core import __version__

REQUIRED = (
    *("torch", "torchvision", "torchaudio", "numpy", "scipy", "pandas", "pyarrow", "numba", "safetensors"),
    *("gradio", "librosa", "soundfile", "typer", "rich"),
)
EXTRAS = {
    "demos": ("plotly",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "ulog": ("pyulog",),
    "mavlink": ("pymavlink",),
    "log": ("tensorboard",),
    "peers": ("torchrecurrent",),
    "metrics": ("pesq", "pystoi"),
}
"""Extra of the distribution -> packages that it brings."""


def installed(package: str) -> str | None:
    """Version of an installed distribution."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine() -> dict[str, Any]:
    """Everything `recurra doctor` reports, as plain values."""
    packages = {name: installed(name) for name in REQUIRED}
    extras = {
        extra: {
            "ready": all(installed(name) for name in names),
            "packages": {name: installed(name) for name in names},
            "get": f'pip install "recurra[{extra}]"',
        }
        for extra, names in EXTRAS.items()
    }
    findings: dict[str, Any] = {
        "recurra": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": packages,
        "extras": extras,
        "chromium": shutil.which("chromium") or shutil.which("chromium-browser"),
        "compiler": shutil.which("cc") or shutil.which("gcc"),
        "numba_cache": os.environ.get("NUMBA_CACHE_DIR", "beside the package, or the user's cache folder"),
        "problems": [
            f"{name} is missing: pip install {name}" for name, found in packages.items() if not found
        ],
    }
    if packages["torch"]:
        findings |= torch_findings()
    return findings


def torch_findings() -> dict[str, Any]:
    import torch

    gpu = torch.cuda.is_available()
    return {
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if gpu else None,
        "gpu": torch.cuda.get_device_name(0) if gpu else None,
        "triton": installed("triton") if find_spec("triton") else None,
    }


def lines(findings: dict[str, Any]) -> list[str]:
    """The findings for people."""
    text = [
        f"recurra {findings['recurra']}, Python {findings['python']}, {findings['system']}, "
        f"{findings['cores']} cores, {findings.get('threads', '?')} threads",
        "packages  "
        + ", ".join(f"{name} {found or 'MISSING'}" for name, found in findings["packages"].items()),
        f"gpu       {findings.get('gpu') or 'none: everything runs on the CPU'}"
        + (f" (CUDA {findings['cuda']})" if findings.get("cuda") else ""),
        f"triton    {findings.get('triton') or 'none: needed for GPU kernels only'}",
        f"compiler  {findings['compiler'] or 'none: needed for torch.compile only'}",
        f"chromium  {findings['chromium'] or 'none: needed for the browser tests only'}",
    ]
    for extra, about in findings["extras"].items():
        state = "ready" if about["ready"] else f"missing; {about['get']}"
        text.append(f"extra     {extra:<8} {', '.join(about['packages'])}: {state}")
    text += [f"problem   {problem}" for problem in findings["problems"]]
    return [*text, "Ready." if not findings["problems"] else "Not ready: see the problems above."]
