"""Evaluations that follow a training run: the jobs that are queued, from where, and how often."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from convbert.cluster.follow import Evaluation, evaluation_script, follow
from convbert.cluster.records import JobRecords
from convbert.cluster.render import JobOptions
from convbert.cluster.site import Site, load_site
from convbert.cluster.submit import submit_array, submit_pretraining
from convbert.models.errors import UserError
from convbert.pretrain.cli import app
from convbert.pretrain.finetune.task import load_task

TASK = {"name": "mine", "train": "rows.csv", "text": ["text"], "metrics": ["accuracy"]}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: a task beside its rows, and rows of the same name elsewhere."""
    for folder in (tmp_path, tmp_path / "data"):
        folder.mkdir(exist_ok=True)
        (folder / "rows.csv").write_text("text,label\nwords,0\nmore words,1\n")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(TASK))
    # What the packaged task of this name reads.
    (tmp_path / "trec.csv").write_text("text,label-coarse\nWho ?,HUM\nWhere ?,LOC\n")
    monkeypatch.chdir(tmp_path)
    commands = {
        "srun": 'while [ "${1#-}" != "$1" ]; do shift; done; SLURM_PROCID=0 exec "$@"',
        "python": 'printf "%s\\n" "$@"',
        "sbatch": f"echo . >> {tmp_path}/queued; sleep 0.5; echo 9",
    }
    for name, line in commands.items():
        path = tmp_path / "tools" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{line}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/tools:{os.environ['PATH']}")
    return tmp_path


@pytest.fixture
def settings(shards_dir: Path, tokenizer_dir: Path) -> list[str]:
    data = [f"data.manifest={shards_dir / 'manifest.json'}", f"data.tokenizer={tokenizer_dir}"]
    return [*data, "steps=10", "global_batch=8", "schedule.warmup_steps=2"]


def submitted(settings: list[str], *options: str) -> Result:
    """Submit without queueing."""
    Path("site.yaml").write_text(f"python: {Path('tools/python').resolve()}")
    command = ["submit", "tiny", *settings, "--run-dir", "run", "--dry-run", *options]
    command += ["--site", "site.yaml"]
    return CliRunner().invoke(app, command)


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        (["--evaluate", "mine.yaml"], ""),
        (["--evaluate", "mine.yaml", "--data-dir", "data"], "data"),
        (["--evaluate", "trec"], ""),
    ],
)
def test_job_reads_what_the_paths_meant_at_submission(
    home: Path,
    settings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    folder: str,
) -> None:
    assert submitted(settings, *options).exception is None
    expected = load_task(options[1], home / folder).train
    run = home / "run"
    (run / "checkpoints" / "step-00000010").mkdir()
    monkeypatch.chdir(run)  # where SLURM starts jobs
    follow(run)
    shown = subprocess.run(
        ["bash", run / "slurm" / "evaluate-00000010.sbatch"],
        env={**os.environ, "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    given = dict(pairwise(shown))
    data_dir = Path(given["--data-dir"]) if "--data-dir" in given else None
    assert load_task(given["--task"], data_dir).train == expected
    assert expected.is_file()


def test_task_without_its_files_is_refused_at_submission(home: Path, settings: list[str]) -> None:
    (home / "rows.csv").unlink()
    error = submitted(settings, "--evaluate", "mine.yaml").exception
    assert isinstance(error, UserError)
    assert "rows.csv" in str(error)
    assert not (home / "run").exists()


def test_limit_and_partition_of_an_evaluation_are_given_with_the_run(
    home: Path, settings: list[str]
) -> None:
    evaluate = ["--evaluate", "mine.yaml", "--partition", "gpu"]
    assert submitted(settings, *evaluate, "--evaluate-time", "30:00").exception is None
    plan = Evaluation.load(home / "run")
    assert (plan.time, plan.partition) == ("30:00", "gpu")
    error = submitted(settings, *evaluate, "--evaluate-time", "soon").exception
    assert str(error).startswith("--evaluate-time='soon': ")


def test_two_looks_at_once_queue_an_evaluation_once(home: Path) -> None:
    run = home / "run"
    (run / "checkpoints" / "step-00000010").mkdir(parents=True)
    (run / "config.yaml").write_text("{steps: 10, schedule: {warmup_steps: 1}}\n")
    load_site("local").keep(run)
    Evaluation(tasks={"mine.yaml": home}).save(run)
    command = [sys.executable, "-m", "convbert.cluster.follow", str(run)]
    looks = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = sorted(look.communicate()[0] for look in looks)
    assert told == ["", "convbert: evaluation queued as job 9\n"]
    assert (home / "queued").read_text() == ".\n"


def evaluation(folder: Path, profile: dict[str, object]) -> str:
    """Return the script for three tasks."""
    plan = Evaluation(tasks={name: folder / name for name in ("a", "b", "it's $(c)")})
    return evaluation_script(folder, Site.model_validate(profile), plan, 5)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"gpus_per_node": 8, "memory": "480G"}, ["--gres=gpu:1", "--ntasks=1", "--mem=61440M"]),
        ({"tasks_per_node": 4, "memory": "1000"}, ["--ntasks=1", "--mem=250M", "--array=0-2"]),
        ({"gpus_per_node": 8, "exclusive": True}, ["--gres=gpu:3", "--ntasks=3", "--array=0-0"]),
        ({"gpus_per_node": 2, "memory": "0"}, ["--gres=gpu:2", "--ntasks=2", "--array=0-1"]),
    ],
)
def test_evaluations_share_a_node(
    tmp_path: Path, profile: dict[str, object], expected: list[str]
) -> None:
    lines = evaluation(tmp_path, profile).splitlines()
    assert [option for option in expected if f"#SBATCH {option}" not in lines] == []
    assert ("#SBATCH --exclusive" in lines) == bool(profile.get("exclusive"))


def test_each_process_takes_its_task_and_its_gpu(tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()
    tools = {
        "python": 'echo "$CUDA_VISIBLE_DEVICES ${@: -3}"',
        "srun": 'while [ "${1#-}" != "$1" ]; do shift; done\n'
        'for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@"; done',
    }
    for name, text in tools.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    profile = {"gpus_per_node": 2, "exclusive": True, "python": str(tmp_path / "python")}
    script = tmp_path / "script"
    script.write_text(evaluation(tmp_path, profile))
    shown = ""
    for number, gpus in enumerate(["4,7", ""]):
        variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": str(number)}
        variables |= {"SLURM_ARRAY_JOB_ID": "1", "CUDA_VISIBLE_DEVICES": gpus}
        shown += subprocess.run(
            ["bash", script],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert shown.splitlines() == [
        f"4 a --data-dir {tmp_path}/a",
        f"7 b --data-dir {tmp_path}/b",
        f"0 it's $(c) --data-dir {tmp_path}/it's $(c)",
    ]


def test_array_avoids_what_its_runs_found_bad(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "tools" / "sbatch").write_text(f'#!/bin/bash\necho "$@" > {home}/queued; echo 9\n')
    runs = [home / "a", home / "b"]
    JobRecords(runs[0]).exclude({"n1": "slow"})
    JobRecords(runs[1]).exclude({"n2": "bad", "n1": "slow"})
    site = Site.model_validate({"exclude": "n[7-9]"})
    submit_array(home, runs, site, JobOptions())
    assert " --exclude=n1,n2,n[7-9] " in (home / "queued").read_text()


def test_evaluations_that_slurm_would_refuse_are_refused_at_submission(home: Path) -> None:
    (home / "tools" / "sbatch").write_text(
        "#!/bin/bash\n"
        'case "$*" in *--test-only*) grep -q -- "--array" "${@: -1}" || exit 0\n'
        "printf 'sbatch: error: Invalid partition\\nsbatch: error: failed\\n' >&2; exit 1;; esac\n"
        f"echo . >> {home}/queued; echo 9\n"
    )
    plan = Evaluation(tasks={"mine": home})
    expected = "--evaluate: sbatch would refuse its jobs: Invalid partition; failed; correct"
    with pytest.raises(UserError, match=expected):
        submit_pretraining(home / "run", Site(), JobOptions(), plan)
    assert not (home / "queued").exists()
    assert submit_pretraining(home / "run", Site(), JobOptions())[1] == ["9"]
