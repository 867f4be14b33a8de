"""SLURM's commands, called without a shell, and the meaning of their answers."""

import os
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from convbert.models.errors import AbsentError, TransientError, UserError

ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "REVOKED", "TIMEOUT"}
)
WAITING = frozenset({"CONFIGURING", "PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD"})


@dataclass(frozen=True)
class Job:
    """A job as SLURM describes it; times in seconds, None where SLURM gives none."""

    id: str
    state: str
    reason: str = ""
    nodes: str = ""
    seconds_left: float | None = None
    name: str = ""
    directory: str = ""

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state not in ENDED

    @property
    def waits(self) -> bool:
        """Whether none of its processes has been started, so that nothing is lost with it."""
        return self.active and self.state in WAITING


def outside_environment() -> dict[str, str]:
    """Return the environment without the variables of a surrounding job.

    A job submitted from inside another would inherit its SLURM_NTASKS and the like.
    """
    kept = ("SLURM_CONF", "SLURM_EXIT_ERROR", "SLURM_CLUSTERS")
    return {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") or k in kept}


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a SLURM command; raise ``AbsentError`` if it does not exist."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=outside_environment()
        )
    except FileNotFoundError:
        raise AbsentError(
            f"{command[0]}: not found; run this where SLURM's commands are, such as a login node "
            "(`convbert submit --dry-run` works anywhere)"
        ) from None


def sbatch(script: Path, directory: Path, *options: str) -> str:
    """Queue ``script`` to run in ``directory``; return the job's id.

    The directory is an argument, not a ``#SBATCH`` line, because SLURM reads patterns and spaces
    there. Raises ``UserError`` with SLURM's reason if SLURM refuses the script.
    """
    command = ["sbatch", "--parsable", "--chdir", str(directory.resolve()), *options]
    done = call(*command, str(script.resolve()))
    if done.returncode:
        raise UserError(f"{script}: sbatch refused it: {_reason(done.stderr, 'sbatch')}")
    return done.stdout.strip().split(";")[0]


def refusal(script: Path, directory: Path) -> str | None:
    """Return SLURM's reason against a script, None if it would queue it; nothing is queued."""
    done = call("sbatch", "--test-only", "--chdir", str(directory), str(script))
    return _reason(done.stderr, "sbatch") if done.returncode else None


def step_refusal(options: Sequence[str]) -> str | None:
    """Return srun's reason against options of a step, None if it knows them and their values."""
    done = call("srun", "--test-only", *options, "true")
    return _reason(done.stderr, "srun") if done.returncode else None


def _reason(errors: str, program: str) -> str:
    """Return SLURM's messages as one line."""
    lines = (line.strip() for line in errors.splitlines())
    return "; ".join(line.removeprefix(f"{program}: error: ") for line in lines if line)


def why_not(done: subprocess.CompletedProcess[str]) -> str:
    """Return, in one line, why a command of SLURM gave up, which its last line says."""
    reason = done.stderr.strip().rpartition("\n")[2]
    for mark in (f"{done.args[0]}: ", "fatal: ", "error: "):
        reason = reason.removeprefix(mark)
    return reason or f"ended with status {done.returncode}"


def cancel(job: str, *options: str) -> None:
    """Call scancel for a job with ``options``; raise ``UserError`` if SLURM refuses."""
    done = call("scancel", *options, job)
    if done.returncode:
        raise UserError(f"scancel {job}: {done.stderr.strip()}")


def queue(users: Collection[int] = ()) -> list[Job]:
    """Return the jobs of this user, and of those with the ids ``users``, as the queue shows them.

    The tasks of an array are jobs of their own, ``12_0``. Raises ``AbsentError`` without SLURM's
    commands and ``TransientError`` if the queue does not answer.
    """
    who = ",".join(str(user) for user in sorted({os.getuid(), *users}))
    fields = "--format=%i|%T|%r|%N|%L|%j|%Z"
    done = call("squeue", "--noheader", "--array", "--states=all", f"--user={who}", fields)
    if done.returncode:
        raise TransientError(f"squeue: {why_not(done)}")
    found = []
    for line in done.stdout.splitlines():
        job, *others = line.split("|", 6)
        if len(others) < 4:  # the rest of a directory whose name has a line break
            continue
        state, reason, nodes, left, *names = others
        found.append(Job(job, state, reason, nodes, parse_duration(left), *names))
    return found


def accounted(ids: Sequence[str]) -> list[Job]:
    """Return the jobs and the arrays' tasks that accounting knows, none without accounting."""
    if not ids:
        return []
    lines = answer("sacct", "-n", "-P", "-X", "-j", ",".join(ids), "-o", "JobID,State,NodeList")
    fields = (line.split("|") for line in lines.splitlines())
    return [
        Job(job, state.split()[0], nodes=nodes)  # "CANCELLED by 1000"
        for job, state, nodes in fields
    ]


def partition_nodes() -> set[str] | None:
    """Return the nodes of this job's partition, None where sinfo does not answer."""
    partition = os.environ.get("SLURM_JOB_PARTITION", "")
    shown = answer("sinfo", "--noheader", "--Node", f"--partition={partition}", "--format=%N")
    return set(shown.split()) or None


def answer(*command: str) -> str:
    """Return the output of a command that a site may lack, nothing where it is absent or fails."""
    try:
        done = call(*command)
    except AbsentError:
        return ""
    return "" if done.returncode else done.stdout


def parse_duration(text: str) -> float | None:
    """Return the seconds of ``[DAYS-]HH:MM:SS``, ``MM:SS``; None for ``UNLIMITED`` and the like."""
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(p.isdigit() for p in parts) or (dash and not days.isdigit()):
        return None
    seconds = 0.0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return seconds + 86_400 * int(days or 0)
