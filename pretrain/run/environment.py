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


def _git(*arguments: str) -> str | None:
    """Return what git says about this checkout; None where these files are of none."""
    here = Path(__file__)
    for command in (("ls-files", "--error-unmatch", here.name), arguments):
        try:
            said = subprocess.run(
                ["git", "-C", str(here.parent), *command],
                capture_output=True,
                text=True,
                check=True,
            )
        except (FileNotFoundError, subprocess.CalledProcessError):  # no git on this machine, say
            return None
    return said.stdout.strip()


def code_version() -> str:
    """Return the git commit of an editable checkout, else the installed version."""
    commit = _git("describe", "--always", "--dirty")
    return commit or _version("convbert-pretrain") or "unknown"


def git_commit() -> str | None:
    """Return the whole hash of the commit of an editable checkout, None for an installed one."""
    return _git("rev-parse", "HEAD")


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
