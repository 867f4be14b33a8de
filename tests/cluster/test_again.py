"""The end of a job script, with stand-ins for SLURM and for our own Python: no test starts it."""

import os
import subprocess
from pathlib import Path

import pytest

from convbert.cluster.render import JobOptions, render_corpus, render_pretraining
from convbert.cluster.site import load_site

PYTHON = """\
echo "$*" >> {run}/asked
case "$*" in *"attempt end"*)
  touch {run}/waits; read -r line; echo "$line" >> {run}/told; echo "requeue node7";;
esac"""
PASSED_ON = "env | grep ^SLURM_ | cut -d= -f1"


def program(folder: Path, name: str, line: str) -> Path:
    """Write a stand-in for a command."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/bash\n{line}\n")
    path.chmod(0o755)
    return path


def run_script(
    run: Path,
    text: str,
    srun: str,
    scontrol: str = "exit 0",
    sbatch: str = "echo 9",
    state: str = "RUNNING",
) -> tuple[int, str]:
    """Run a job script as job 8; return its status and messages."""
    tools = run / "tools"
    program(tools, "srun", srun)
    program(tools, "squeue", f"echo {state}")
    program(tools, "scontrol", f'echo "scontrol $*" >> {run}/calls; {scontrol}')
    program(
        tools, "sbatch", f'echo "sbatch $*" >> {run}/calls; {PASSED_ON} >> {run}/seen; {sbatch}'
    )
    script = run / "job.sbatch"
    script.write_text(text)
    variables = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_EXPORT_ENV": "NONE",
        "SLURM_JOB_ID": "8",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NTASKS": "2",
    }
    done = subprocess.run(
        ["bash", script],
        cwd=run,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def pretraining(run: Path, *others: Path, chain: int = 1, **changes: object) -> str:
    """Render the script for a site whose Python is a stand-in."""
    (run / "slurm").mkdir(parents=True, exist_ok=True)
    python = program(run / "tools", "python", PYTHON.format(run=run))
    site = load_site("local").model_copy(update={"python": str(python), **changes})
    options = JobOptions(nodes=2, preflight=False, chain=chain)
    return render_pretraining([run, *others], site, options)


REFUSE = 'case "$*" in requeue*) echo "presently disabled" >&2; exit 1;; esac'


@pytest.mark.parametrize("others", [[], ["second"]], ids=["one run", "task of an array"])
def test_job_that_is_not_requeued_gets_a_successor(tmp_path: Path, others: list[str]) -> None:
    text = pretraining(tmp_path, *(tmp_path for _ in others), exclude="node1")
    code, shown = run_script(tmp_path, text, "exit 75", REFUSE)
    assert code == 75, shown
    assert "refused to requeue this job (presently disabled); job 9 continues it" in shown
    refused, queued = (tmp_path / "calls").read_text().splitlines()
    assert refused == "scontrol requeue 8"
    expected = ["--dependency=afterany:8", "--exclude=node1,node7", f"--chdir={tmp_path}"]
    expected += ["--array=1"] if others else []
    assert set(expected) < set(queued.split())
    assert queued.split()[-1] == str(tmp_path / "job.sbatch")
    assert (tmp_path / "seen").read_text() == "SLURM_CONF\n"  # nothing of this job's size
    last = (tmp_path / "asked").read_text().splitlines()[-1]
    assert "attempt refused" in last
    assert f"--job {'9_1' if others else '9'}" in last


def test_job_that_is_requeued_avoids_the_bad_nodes(tmp_path: Path) -> None:
    code, shown = run_script(tmp_path, pretraining(tmp_path, exclude="node1"), "exit 75")
    assert (code, shown) == (75, "")
    commands = "scontrol requeue 8\nscontrol update JobId=8 ExcNodeList=node1,node7\n"
    assert (tmp_path / "calls").read_text() == commands
    assert (tmp_path / "told").read_text() == "75 0\n"


def test_where_nothing_can_be_queued_the_log_names_the_remedy(tmp_path: Path) -> None:
    text = pretraining(tmp_path)
    _, shown = run_script(tmp_path, text, "exit 75", REFUSE, sbatch="exit 1")
    assert "refused to requeue this job (presently disabled) and to queue another: submit" in shown
    assert (tmp_path / "asked").read_text().splitlines()[-1].split()[2:5] == [
        "refused",
        "--job",
        "--run",
    ]


@pytest.mark.parametrize("state", ["COMPLETING", "PENDING"])
def test_job_that_slurm_has_put_back_itself_gets_no_successor(tmp_path: Path, state: str) -> None:
    text = pretraining(tmp_path)
    code, shown = run_script(tmp_path, text, "exit 75", REFUSE, state=state)
    assert (code, shown) == (75, "")
    assert (tmp_path / "calls").read_text() == "scontrol requeue 8\n"
    assert "attempt refused" not in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("why", "again"), [("", False), (" DUE TO NODE FAILURE", False), (" DUE TO TIME LIMIT", True)]
)
def test_job_that_is_ended_while_it_decides_comes_back_only_after_its_limit(
    tmp_path: Path, why: str, again: bool
) -> None:
    text = pretraining(tmp_path)
    line = f"slurmstepd-node0: error: *** JOB 8 ON node0 CANCELLED AT 2026-11-29T14:19:29{why} ***"
    ends = f'echo "{line}" > {tmp_path}/slurm/8.log; kill -TERM $(cat {tmp_path}/pid)'
    stand_in = PYTHON.format(run=tmp_path).replace("read -r line;", f"read -r line; {ends};")
    program(tmp_path / "tools", "python", stand_in)
    run_script(tmp_path, text, f"echo $PPID > {tmp_path}/pid; exit 75")
    assert (tmp_path / "told").read_text() == "75 0\n"
    assert (tmp_path / "calls").exists() is again


def test_chain_leaves_the_rest_to_its_next_job(tmp_path: Path) -> None:
    code, shown = run_script(tmp_path, pretraining(tmp_path, chain=2), "exit 75")
    assert code == 75
    assert "the next job of the chain continues" in shown
    assert not (tmp_path / "calls").exists()


@pytest.mark.parametrize(("signal", "terminated"), [("USR1", 0), ("TERM", 1)])
def test_python_of_the_end_starts_while_the_processes_save(
    tmp_path: Path, signal: str, terminated: int
) -> None:
    step = f"""\
trap 'asked=1' USR1
kill -{signal} $PPID
while [ -z "${{asked:-}}" ]; do sleep 0.05; done
for _ in $(seq 200); do [ ! -e {tmp_path}/waits ] || exit 75; sleep 0.05; done
exit 1"""
    code, shown = run_script(tmp_path, pretraining(tmp_path), step)
    assert (code, shown) == (75, "")
    assert (tmp_path / "told").read_text() == f"75 {terminated}\n"


def test_job_survives_bookkeeping_that_fails(tmp_path: Path) -> None:
    text = pretraining(tmp_path)
    program(tmp_path / "tools", "python", 'case "$*" in *"attempt end"*) exit 1;; esac')
    code, _ = run_script(tmp_path, text, "exit 75")
    assert code == 75
    assert not (tmp_path / "calls").exists()


SETUP = [
    'PS1="(env) $PS1"',  # an unset variable, as in conda's and Debian's scripts
    "false",
    "false | true",
    "export FROM_SETUP='as it is'",
]


def test_setup_may_do_what_a_login_shell_may(tmp_path: Path) -> None:
    text = pretraining(tmp_path, setup=SETUP)
    seen = f'echo "$FROM_SETUP ${{SLURM_EXPORT_ENV-not set}}" > {tmp_path}/reached; exit 2'
    _, shown = run_script(tmp_path, text, seen)
    assert (tmp_path / "reached").read_text() == "as it is not set\n"
    assert shown == "convbert: setup: status 1 from: false\n"  # said, for it may be a mistake


def test_module_that_is_not_there_ends_the_job(tmp_path: Path) -> None:
    text = pretraining(tmp_path, modules=["cuda/99"])
    program(tmp_path / "tools", "module", "echo unknown >&2; exit 1")
    code, shown = run_script(tmp_path, text, f"touch {tmp_path}/reached")
    assert (code, shown) == (1, "unknown\n")
    assert not (tmp_path / "asked").exists()


def corpus(folder: Path) -> str:
    """Render the script of a corpus whose build fails."""
    (folder / "slurm").mkdir(exist_ok=True)
    lines = """\
for a; do case $a in *dask_scheduler) shift 4; echo '{}' > "$1"; exec sleep 60 >&- 2>&-;; esac; done
exit 1"""
    python = program(folder / "tools", "python", lines)
    site = load_site("local").model_copy(update={"python": str(python)})
    return render_corpus(folder / "corpus.yaml", folder, site, JobOptions(retries=2))


def test_successors_of_a_corpus_build_count_its_failures(tmp_path: Path) -> None:
    text = corpus(tmp_path)
    for restarts in (1, 2):
        (tmp_path / "calls").unlink(missing_ok=True)
        code, shown = run_script(tmp_path, text, "exit 0", REFUSE)
        assert code == 1
        assert "job 9 continues it" in shown
        assert (tmp_path / "slurm" / "restarts-9").read_text() == f"{restarts}\n"
        (tmp_path / "slurm" / "restarts-9").rename(tmp_path / "slurm" / "restarts-8")
    (tmp_path / "calls").unlink()
    run_script(tmp_path, text, "exit 0", REFUSE)
    assert not (tmp_path / "calls").exists()


def test_corpus_build_that_was_stopped_stays_so(tmp_path: Path) -> None:
    text = corpus(tmp_path)
    (tmp_path / "slurm" / "stops").mkdir()
    (tmp_path / "slurm" / "stops" / "8").touch()
    code, shown = run_script(tmp_path, text, "exit 0")
    assert code == 1
    assert "stopped on request" in shown
    assert not (tmp_path / "calls").exists()
