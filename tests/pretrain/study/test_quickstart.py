"""The quickstart: Ctrl-C saves what was trained, and one GPU is enough."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from forked import wait_for

from convbert.pretrain.study import quickstart
from convbert.pretrain.study.steps import StudyStep


@pytest.mark.slow
@pytest.mark.integration
def test_ctrl_c_saves_a_checkpoint_from_which_the_same_command_goes_on(
    tmp_path: Path, corpus: Path, tokenizer_dir: Path, shards_dir: Path
) -> None:
    out = tmp_path / "out"
    for name, place in (("tokenizer", tokenizer_dir), ("shards", shards_dir)):
        shutil.copytree(place, out / name)
    (out / "corpus").mkdir()
    (out / "corpus" / "movie_reviews.csv").touch()
    shutil.copyfile(corpus, out / "corpus" / "review_sentences.jsonl")
    command = [sys.executable, "-m", "convbert.pretrain.cli", "quickstart", "-o", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    log = out / "run" / "metrics.jsonl"
    wait_for(lambda: log.is_file() or process.poll() is not None, 200)
    os.killpg(process.pid, signal.SIGINT)
    printed = process.communicate(timeout=200)[0]
    assert f"stopped; the same command continues {out}" in printed
    assert process.returncode == 75
    assert list((out / "run" / "checkpoints").glob("step-*"))


@pytest.mark.parametrize(("gpus", "processes"), [(0, 2), (1, 1), (4, 2)])
def test_there_are_no_more_processes_than_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, processes: int
) -> None:
    done: list[StudyStep] = []
    monkeypatch.setattr(quickstart, "gpus_here", lambda: gpus)
    monkeypatch.setattr(quickstart.Commands, "run", lambda self, step: done.append(step))
    monkeypatch.setattr(quickstart, "_summarize", lambda *arguments: None)
    quickstart.run(tmp_path)
    (training,) = (step for step in done if step.arguments[0] == "pretrain")
    assert training.arguments[-2:] == ["--processes", str(processes)]
