"""Commands that only look at text and shards start without the libraries that train."""

import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "deepspeed", "mlflow", "transformers", "sklearn", "matplotlib", "dask")
PROGRAM = """
import json, sys
from convbert.pretrain import cli
sys.argv = ["convbert", *json.loads(sys.argv[1])]
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps([name for name in {heavy} if name in sys.modules]))
"""


def loaded(*arguments: str) -> list[str]:
    """Run a command in a new process; return which heavy libraries it loaded."""
    program = PROGRAM.replace("{heavy}", repr(HEAVY))
    command = [sys.executable, "-c", program, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_looking_at_shards_loads_nothing_heavy(shards_dir: Path, tokenizer_dir: Path) -> None:
    assert loaded("shards", "info", str(shards_dir)) == []
    assert loaded("shards", "verify", str(shards_dir)) == []
    assert loaded("shards", "head", str(shards_dir), "-t", str(tokenizer_dir), "-n", "1") == []


def test_lists_and_plans_of_corpora_load_nothing_heavy() -> None:
    assert loaded("corpus", "list") == []
    assert loaded("corpus", "plan", "--terabytes", "0.1") == []
