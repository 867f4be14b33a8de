"""Commands that compute nothing start without PyTorch, DeepSpeed, MLflow and transformers."""

import subprocess
import sys

import pytest

SLOW = ("torch", "deepspeed", "mlflow", "transformers", "sklearn", "scipy", "matplotlib")
SCRIPT = f"""
import sys
from convbert.pretrain.cli import main
try:
    code = main()
except SystemExit as ended:
    code = ended.code
print("\\nloaded:", *(name for name in {SLOW} if name in sys.modules))
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("tasks list", "rotten_tomatoes"),
        ("tasks --help", "fetch"),
        ("finetune --help", "--seeds"),
        ("evaluate --help", "--held-out"),
        ("probe --help", "--pooling"),
        ("show --help", "--html"),
        ("report --help", "--output"),
        ("watch --help", "--port"),
        ("study --help", "--flops"),
        ("quickstart --help", "--output"),
    ],
)
def test_a_command_that_computes_nothing_loads_no_heavy_package(arguments, shown):
    command = [sys.executable, "-c", SCRIPT, *arguments.split()]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown in result.stdout
    assert result.stdout.splitlines()[-1] == "loaded:"
