"""What a run executes on: versions, command, host and hardware."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("convbert-pretrain", "torch", "deepspeed", "numpy", "sentencepiece", "mlflow")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def code_version() -> str:
    """Return the git commit of an editable checkout, else the installed version."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:  # no git on this machine
        commit = ""
    return commit or _version("convbert-pretrain") or "unknown"


def hardware() -> str:
    """Name what one process computes on: the GPU, else the processor's architecture."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU ({platform.machine()})"


def environment() -> dict[str, Any]:
    """Describe what a run executes on: versions, command and host."""
    return {
        "code": code_version(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "command": sys.argv,
        "host": platform.node(),
        "platform": platform.platform(),
    }
