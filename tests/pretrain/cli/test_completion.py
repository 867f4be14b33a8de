"""What the shell is offered: real names, run directories, keys of settings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from convbert.pretrain.cli import completion
from convbert.pretrain.settings.run import RunConfig


def test_names_and_keys_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("runs/one", "runs/two", "else/deep"):
        Path(name).mkdir(parents=True)
    Path("runs/one/config.yaml").touch()
    Path("own.yaml").touch()
    assert completion.recipes("ti") == ["tiny"]
    assert completion.recipes("o") == ["own.yaml"]
    assert completion.runs("runs/") == ["runs/one", "runs/two/"]
    assert completion.runs("") == ["else/", "runs/", "runs/one"]
    assert completion.runs("nowhere/") == []
    # Two words, so that no blank comes behind the "=".
    key = "schedule.warmup_steps="
    assert completion.settings("schedule.w") == [key, f"{key}{RunConfig().schedule.warmup_steps}"]
    assert completion.settings("model.ini") == ["model.init_from=", "model.init_from=..."]
    assert "steps=" in completion.settings("st")
    assert "optimizer=" not in completion.settings("")
    assert completion.tasks("rotten") == ["rotten_tomatoes"]
    assert "wikitext-2" in completion.corpora("wiki")
    assert "local" in completion.sites("")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("convbert plan medium", "medium-small"),
        ("convbert pretrain tiny optimizer.learn", "optimizer.learning_rate="),
        ("convbert finetune runs/x --task rotten", "rotten_tomatoes"),
    ],
)
def test_bash_gets_them(line, offered):
    words = line.split()
    environment = {
        "_CONVBERT_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    start = "import sys; sys.argv = ['convbert']; from convbert.pretrain.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", start],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert offered in ran.stdout.split()
