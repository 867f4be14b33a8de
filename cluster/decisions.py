"""After an attempt: its outcome, and whether and without which nodes to make another one."""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from convbert.cluster import scheduler
from convbert.cluster.hostlist import expand
from convbert.cluster.records import Attempt, JobRecords, Outcome
from convbert.pretrain.run.exit_codes import (
    BAD_NODE,
    FINISHED,
    HUNG,
    STOPPED,
    TRANSIENT,
    UNCHECKED,
    USER_ERROR,
)

FAILURES: tuple[Outcome, ...] = (
    "out of memory",
    "bad node",
    "unchecked",
    "crashed",
    "hung",
    "interrupted",
    "lost",
)
_OUTCOMES: dict[int, Outcome] = {
    STOPPED: "saved",
    128 + signal.SIGUSR1: "saved",  # asked to, before Python was there to do it
    USER_ERROR: "refused",
    HUNG: "hung",
    BAD_NODE: "bad node",
    UNCHECKED: "unchecked",
}
_FINAL: dict[Outcome, str] = {
    "finished": "finished",
    "stopped": "stopped on request; `convbert submit` continues",
    "cancelled": "cancelled; `convbert submit` continues",
    "refused": "the messages above say what to correct; then submit it again",
}
REPEATED_OOM = 2
"""Failures by lack of memory without a checkpoint in between, after which more cannot help."""

_SRUN_FAILURE = re.compile(
    rf"^srun: error: (\S+): tasks? [\d,-]+: (?!Exited with exit code {STOPPED})(.*)", re.M
)
_STATUS = re.compile(r"Exited with exit code (\d+)")
_CANCELLED = re.compile(r"\*\*\* (?:STEP|JOB) .* CANCELLED AT |^srun: .*Job step aborted", re.M)
_BY_SLURM = re.compile(r"\*\*\* (?:STEP|JOB) .* CANCELLED AT \S+(?: DUE TO (\w+(?: \w+)*))?", re.I)
_NODE_FAILURE = re.compile(r"^srun: error: Node failure on (\S+)", re.M)
_KILLED = re.compile(r"Terminated|Killed|Alarm clock|User defined signal")
_LATE = re.compile(r"(?:rank|,) \d+ \(([^\s,()]+), pid \d+\)")
_OUT_OF_MEMORY = re.compile(r"oom[-_ ]?kill|out[ _-]of[ _-]memory|OutOfMemoryError", re.I)
TELLING = re.compile(
    rb"srun: |\*\*\*|, pid \d|oom[-_ ]?kill|out[ _-]of[ _-]memory|OutOfMemoryError", re.I
)
"""Lines of a log that the functions below read; thousands of processes write many others."""


@dataclass(frozen=True)
class Decision:
    """Whether to go back into the queue, which nodes to avoid there, and why."""

    requeue: bool
    exclude: list[str]
    reason: str


def classify(code: int, log: str, *, terminated: bool, stopping: bool) -> Outcome:
    """Return how an attempt ended, from the step's exit code and the attempt's part of the log.

    ``terminated``: SLURM ended the job from outside.
    """
    if code == FINISHED:
        return "finished"
    if stopping:
        return "stopped"
    if terminated:
        if why_terminated(log) is None:
            return "cancelled"
        return "saved" if code == STOPPED else "lost"
    # Of several processes the one that failed first decides, unless all were asked to end.
    first = _first_status(log)
    if code not in (STOPPED, USER_ERROR) and TRANSIENT in (code, first):
        return "interrupted"
    if code not in _OUTCOMES and first == USER_ERROR:
        return "refused"
    if code in _OUTCOMES:
        return _OUTCOMES[code]
    if failed_nodes(log):
        return "lost"
    return "out of memory" if _OUT_OF_MEMORY.search(log) else "crashed"


def to_blame(outcome: Outcome, log: str, nodes: Sequence[str]) -> list[str]:
    """Return the nodes that caused a failure, as far as the log shows.

    That is the node whose task srun reported first, before the others were ended; after a hang, the
    nodes of the processes that the watchdog found late, unless all were. No node is to blame for a
    task that ended after its step was cancelled, or by a signal during a check that was cut off.
    """
    if outcome == "lost":
        return [node for node in failed_nodes(log) if node in nodes]
    if outcome == "hung":
        late = {host.split(".")[0] for host in _LATE.findall(log)}
        found = [n for n in nodes if n.split(".")[0] in late]
        return found if len(found) < len(nodes) else []
    match = _first_failure(log)
    if match is None or outcome not in FAILURES or outcome == "interrupted":
        return []
    if outcome == "unchecked" and _KILLED.match(match.group(2)):
        return []
    first = expand(match.group(1))  # srun puts nodes whose tasks ended alike into one line
    return first if len(first) < len(nodes) or len(nodes) == 1 else []


def why_terminated(log: str) -> str | None:
    """Return why SLURM ended a job, None if a person asked for it.

    The log alone says so: squeue says the same of every job that is ending.
    """
    if failed_nodes(log):
        return "node failure"
    return next((why.lower() for why in reversed(_BY_SLURM.findall(log)) if why), None)


def failed_nodes(log: str) -> list[str]:
    """Return the nodes that SLURM says failed while the step ran."""
    return list(dict.fromkeys(_NODE_FAILURE.findall(log)))


def ended_by_themselves(log: str) -> dict[str, int]:
    """Return the nodes one of whose tasks ended with an exit status above 0, before all had to."""
    before = _CANCELLED.split(log, maxsplit=1)[0]
    found = ((names, _STATUS.fullmatch(how)) for names, how in _SRUN_FAILURE.findall(before))
    return {node: int(status[1]) for names, status in found if status for node in expand(names)}


def _first_failure(log: str) -> re.Match[str] | None:
    """Return srun's line about the task that failed first: its node, and how it ended."""
    return _SRUN_FAILURE.search(_CANCELLED.split(log, maxsplit=1)[0])


def _first_status(log: str) -> int | None:
    """Return the exit status of the task that failed first, None if a signal or nothing ended it.

    srun's own status is the highest of all tasks: a process that waited for the failed one and was
    then killed has a higher one.
    """
    match = _first_failure(log)
    status = match and _STATUS.fullmatch(match[2])
    return int(status[1]) if status else None


def failures_in_a_row(attempts: list[Attempt], reached: int) -> list[Attempt]:
    """Return the newest attempts that left no new checkpoint, newest first.

    ``reached`` is the newest checkpoint's step now, the end of an attempt that was lost and did not
    record its own. An attempt that saved in time but made no step counts as a failure too:
    otherwise a time limit that is too short would requeue the job for ever.
    """
    row: list[Attempt] = []
    for attempt in reversed(attempts):
        end_step = reached if attempt.end_step is None else attempt.end_step
        reached = attempt.step
        if end_step > attempt.step or attempt.outcome not in (*FAILURES, "saved"):
            break
        row.append(attempt)
    return row


def decide(
    records: JobRecords, job: str, retries: int, least: int, *, why: str | None = None
) -> Decision:
    """Return what to do after the newest attempt of a job that needs ``least`` nodes.

    Nothing where SLURM ended it, and ``why`` is not the time limit: SLURM itself puts a job back
    for which a node failed or a job of higher priority came.
    Suspected nodes are added to the run's excluded nodes, unless too few would be left. A job for
    which too few are left does not go back into the queue, where it would wait for ever.
    """
    attempts = records.attempts(job)
    last = attempts[-1]
    if last.outcome not in (*FAILURES, "saved"):
        return Decision(False, [], _FINAL[last.outcome])
    if why not in (None, "time limit"):
        return Decision(False, [], f"{last.outcome} by {why}; SLURM puts it back into the queue")
    row = failures_in_a_row(attempts, records.run.last_step())
    suspects = _suspects(row)
    if suspects and _enough_beside({*records.excluded(), *suspects}, least):
        records.exclude(suspects)
    excluded = sorted(records.excluded())
    if excluded and not _enough_beside(set(excluded), least):
        return Decision(
            False,
            [],
            f"without {', '.join(excluded)} fewer than {least} nodes are left; have them repaired "
            "and delete slurm/excluded.json, or submit with fewer nodes",
        )
    if last.outcome == "saved" and not row:
        return Decision(True, excluded, "stopped with a checkpoint, continues from there")
    refusal = exhausted(row, retries)
    if refusal:
        return Decision(False, [], refusal)
    nodes = f" ({', '.join(last.failed_nodes)})" if last.failed_nodes else ""
    count = f"attempt {len(row)} of at most {retries + 1} without a new checkpoint"
    then = f"; {count}" if row else " after a new checkpoint, continues from there"
    return Decision(True, excluded, f"{last.outcome}{nodes}{then}")


def _enough_beside(excluded: set[str], least: int) -> bool:
    """Return whether the partition has ``least`` other nodes; True if SLURM does not answer."""
    nodes = scheduler.partition_nodes()
    return nodes is None or len(nodes - excluded) >= least


def exhausted(row: list[Attempt], retries: int) -> str | None:
    """Return why no further attempt is made after these failures in a row, or None."""
    if len([a for a in row if a.outcome == "out of memory"]) >= REPEATED_OOM:
        return "out of memory again: lower micro_batch, or use more GPUs or another ZeRO stage"
    if len(row) > retries:
        kinds = ", ".join(a.outcome for a in reversed(row))
        return f"{len(row)} attempts without a new checkpoint ({kinds}); see the log"
    return None


def _suspects(row: list[Attempt]) -> dict[str, str]:
    """Return the nodes that failed first in both of the last two attempts."""
    crashed = [a.failed_nodes for a in row[:2] if a.outcome in ("crashed", "hung", "unchecked")]
    if len(crashed) < 2 or crashed[0] != crashed[1]:
        return {}
    return dict.fromkeys(crashed[0], f"failed first twice, job {row[0].job}")
