"""Compiled runs end where eager ones do, and a compiler that fails stops nobody."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convbert.pretrain.run import metric_names
from convbert.pretrain.tracking.metrics_log import FILE_NAME, read_records
from convbert.pretrain.tracking.records import StepRecord

pytestmark = [pytest.mark.integration, pytest.mark.slow]

UPDATES = 200
BOUND = 1e-5  # relative difference of any loss; seen was 2.4e-7
SHAPE = {"hidden_size": 32, "embedding_size": 32, "num_heads": 2, "num_layers": 2}
OVERRIDES = {**SHAPE, "local_op": "sdconv", "hidden_dropout": 0.0, "attention_dropout": 0.0}


@pytest.fixture
def train(shards_dir: Path, tokenizer_dir: Path, tmp_path: Path):
    """Train ``tiny`` at the smallest size; return what was said and the losses by update."""

    def run(name: str, *settings: str, **environment: str) -> tuple[str, dict[int, float]]:
        path = tmp_path / name
        shared = [
            f"data.manifest={shards_dir / 'manifest.json'}",
            f"data.tokenizer={tokenizer_dir}",
            "global_batch=8",
            "precision=fp32",
            "threads=1",
            # Without a generator: a sample that rounds to another token is another training.
            "model.preset=bert-tiny",
            f"model.overrides={json.dumps(OVERRIDES)}",
            "schedule={name: constant, warmup_steps: 5}",
            "tracking={uri: 'off', log_every: 10}",
            "checkpoint={every: 100}",
            "evaluation={held_out: null, pairs: null, show: []}",
        ]
        command = [sys.executable, "-m", "convbert.pretrain.cli", "pretrain", "tiny", *shared]
        done = subprocess.run(
            [*command, *settings, "--run-dir", str(path), "--processes", "1"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        records = [r for r in read_records(path / FILE_NAME) if isinstance(r, StepRecord)]
        losses = {r.step: r.values[metric_names.LOSS_TOTAL] for r in records}
        return done.stdout + done.stderr, losses

    return run


def test_losses_agree_with_eager_ones_also_where_a_run_goes_on_otherwise(train, tmp_path) -> None:
    said, eager = train("eager", f"steps={UPDATES}")
    assert "eager: about" in said, "too short to earn compiling back"
    said, _ = train("compiled", f"steps={UPDATES // 2}", "compile=true")
    assert "compiled: as configured" in said
    assert "part 1 is compiled" in said
    said, compiled = train("compiled", f"steps={UPDATES}")
    assert "compiled: as the run began" in said
    said, back = train("compiled", f"steps={UPDATES + 10}", "compile=false")
    assert "now it goes on eager: compile=false" in said
    assert compiled.keys() == eager.keys()
    apart = max(abs(compiled[step] / eager[step] - 1) for step in eager)
    print(f"\nlargest difference of a loss: {apart:.1e}")
    assert apart < BOUND
    assert max(back) == UPDATES + 10


def test_a_compiler_that_fails_is_done_without(train, tmp_path) -> None:
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    cache = str(tmp_path / "cache")
    settings = ["steps=10", "compile=true"]
    said, losses = train("run", *settings, CXX=str(broken), TORCHINDUCTOR_CACHE_DIR=cache)
    assert "part 1 of the networks runs without the compiler, which failed" in said
    assert max(losses) == 10
