"""What the scheduler itself says to every script, and jobs other than pretraining."""

import json
from pathlib import Path

import pytest
import yaml

from convbert.cluster.follow import Evaluation, evaluation_script
from convbert.cluster.records import JobRecords
from convbert.cluster.render import JobOptions, render_corpus, render_pretraining
from convbert.cluster.site import load_site

from .conftest import Slurm, last_step, log

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1800)]


def test_sbatch_accepts_every_script_whatever_the_names(slurm: Slurm, tmp_path: Path) -> None:
    site = load_site("local")
    for number, name in enumerate(["plain", 'it\'s a "$(touch injected)"\n#SBATCH --wrap=id']):
        run = tmp_path / name
        run.mkdir()
        plan = Evaluation(tasks={"sst2": run, name: run})
        texts = [
            render_pretraining([run], site, JobOptions(nodes=2), follow_seconds=60),
            render_pretraining([run, run / "b"], site, JobOptions(nodes=3, min_nodes=1, limit=1)),
            evaluation_script(run, site, plan, 500),
            render_corpus(run / "corpus.yaml", run, site, JobOptions(nodes=2)),
        ]
        for text in texts:
            script = tmp_path / f"{number}.sbatch"
            script.write_text(text)
            slurm.run("sbatch", "--test-only", "--chdir", str(run), str(script))
    assert not list(tmp_path.rglob("injected"))


def test_corpus_of_two_nodes_has_the_bytes_of_a_local_build(
    slurm: Slurm, tmp_path: Path, corpus: Path
) -> None:
    config = tmp_path / "corpus.yaml"
    content = {
        "inputs": [corpus.name],  # relative to where `submit` is called
        "filters": {"language": None, "gopher": None, "repetition": None},
        "tokenizer": {"vocab_size": 600},
        "shards": {"seq_len": [64], "megabytes": 1},
        "piece_megabytes": 1,
    }
    config.write_text(yaml.safe_dump(content))
    far, near = tmp_path / "far", tmp_path / "near"
    slurm.convbert(
        "corpus", "submit", str(config), "-o", str(far), "--nodes", "2", cwd=corpus.parent
    )
    job = JobRecords(far).submissions()[-1].job
    assert slurm.wait_for_end(job, far) == "COMPLETED", log(far)
    assert log(far).splitlines()[-1].startswith("next: convbert pretrain ")
    assert not any(word in log(far) for word in ("distributed.", "8787", "srun: ", "CANCELLED"))
    assert "finished" in slurm.convbert("status", str(far))
    slurm.convbert(
        "corpus", "build", str(config), "-o", str(near), "--workers", "1", cwd=corpus.parent
    )
    files = sorted(p.relative_to(near) for p in near.glob("shards-64/*"))
    assert [f.name for f in files if f.suffix == ".tar"]
    for file in files:
        assert (far / file).read_bytes() == (near / file).read_bytes(), file


def test_evaluations_follow_a_chain_of_jobs(slurm: Slurm, tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    (tmp_path / "rows.csv").write_text(
        "text,label\n" + "".join(f"word {n % 2} and word {n},{n % 2}\n" for n in range(40))
    )
    content = {
        "name": "parity",
        "train": "rows.csv",
        "dev": "rows.csv",
        "text": ["text"],
        "metrics": ["accuracy"],
        "recipe": {"epochs": 1, "batch_size": 20, "max_length": 16},
    }
    task.write_text(yaml.safe_dump(content))
    run = tmp_path / "run"
    settings = ["steps=10", "checkpoint.every=5", "checkpoint.keep_every=5"]
    database = tmp_path / "mlflow.db"
    options = ["--chain", "2", "--no-preflight", "--time", "10:00", "--seeds", "1"]
    options += ["--evaluate", str(task)]
    slurm.submit(run, *settings, f"tracking.uri=sqlite:///{database}", *options)
    first, second = [s.job for s in JobRecords(run).submissions()]
    assert slurm.wait_for_end(first, run) == "COMPLETED", log(run)
    assert slurm.wait_for_end(second, run) == "COMPLETED", log(run)
    assert "finished at step 10; nothing left to do" in log(run)
    queued = json.loads((run / "slurm" / "evaluated.json").read_text())
    assert sorted(queued, key=int) == ["5", "10"]
    for job in queued.values():
        assert slurm.wait_for_end(job, run) == "COMPLETED", log(run)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    points = [r for r in map(json.loads, lines) if r.get("curve") == "parity/accuracy"]
    assert last_step(run) == 10
    assert {p["extra"]["step"] for p in points} >= {5, 10}
