"""Help on moving weights and on planning comes at once: torch is loaded when the work begins."""

import subprocess
import sys

import pytest

ASK_FOR_HELP = """
import sys
from convbert.pretrain.cli import app
app([sys.argv[1], "--help"], standalone_mode=False)
loaded = {"torch", "deepspeed", "mlflow"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.parametrize("command", ["plan", "export", "import"])
def test_help_loads_no_torch(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK_FOR_HELP, command], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert command in done.stdout
