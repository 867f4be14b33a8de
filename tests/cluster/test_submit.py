"""The job script: valid shell, whatever the names are."""

import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from convbert.cluster.submit import JobOptions, render, submit
from convbert.models.errors import UserError

HOSTILE = ["plain", "with space", "quote'\"", "$(touch injected)", "`id`", "a;b&c", "new\nline"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_reach_the_job_unharmed_and_run_nothing(tmp_path: Path, name: str) -> None:
    run = tmp_path / name
    run.mkdir()
    script = tmp_path / "job.sh"
    script.write_text(render(run, JobOptions()))
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    export = script.read_text().split("\nMASTER")[0].split("export RUN_DIR=")[1]
    program = f'export RUN_DIR={export}\nprintf %s "$RUN_DIR"'
    shown = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert shown.stdout == str(run)
    assert not (tmp_path / "injected").exists()


def test_directives_follow_the_options(tmp_path: Path) -> None:
    options = JobOptions(nodes=3, tasks_per_node=4, cpus_per_task=6, partition="a100", time="2:00")
    lines = render(tmp_path, options).splitlines()
    directives = {
        line.split("=")[0]: line.split("=", 1)[1]
        for line in lines
        if "SBATCH" in line and "=" in line
    }
    assert directives["#SBATCH --nodes"] == "3"
    assert directives["#SBATCH --gres"] == "gpu:4"
    assert directives["#SBATCH --partition"] == "a100"
    assert directives["#SBATCH --time"] == "2:00"
    without = render(tmp_path, JobOptions(gpus=False))
    assert "--gres" not in without
    assert "--partition" not in without


def test_options_refuse_what_sbatch_would_misread() -> None:
    for bad in ({"partition": "a b"}, {"partition": "x\n#SBATCH --uid=0"}, {"time": "soon"}):
        with pytest.raises(ValidationError):
            JobOptions.model_validate(bad)


def test_dry_run_only_writes(tmp_path: Path) -> None:
    assert submit(tmp_path, JobOptions(), dry_run=True) is None
    assert (tmp_path / "slurm" / "pretrain.sbatch").is_file()


def test_without_slurm_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"sbatch: not found.*--dry-run"):
        submit(tmp_path, JobOptions())
