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


def test_values_are_completed():
    assert completion.settings("optimizer.name=m") == ["optimizer.name=muon"]
    assert completion.settings("compile=") == ["compile=auto", "compile=false", "compile=true"]
    steps = RunConfig().steps
    assert completion.settings("steps=") == [f"steps={steps}"]
    assert completion.settings("model.init_from=") == []
    assert completion.settings("optimiser.name=") == []


@pytest.mark.parametrize(
    ("split", "offered"),
    [
        (["optimizer.name", "="], ["adamw", "lamb", "muon"]),
        (["optimizer.name", "=", "m"], ["muon"]),
        (["steps", "=", "60", "optimizer.na"], ["optimizer.name=", "optimizer.name=adamw"]),
    ],
)
def test_bash_replaces_only_what_is_behind_the_equals_sign(split, offered, monkeypatch):
    monkeypatch.setenv("COMP_WORDS", "\n".join(["convbert", "pretrain", "tiny", *split]))
    monkeypatch.setenv("COMP_CWORD", str(2 + len(split)))
    typed = split[-1].removeprefix("=")  # click takes = for nothing
    assert completion.settings(typed) == offered


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
