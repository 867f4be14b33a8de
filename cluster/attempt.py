"""``python -m convbert.cluster.attempt begin|preflight|share|end``: the job script's bookkeeping.

``begin`` exits with 0 to go on, 1 where the limit of failures is reached, 3 where the run has
finished already. ``preflight`` prints srun's options for the nodes to train on, if not all, and
exits with 76 where nodes are unfit, with 78 where the check was cut off; ``share`` does it without
a check. ``end`` prints ``requeue NODE,NODE`` (``-`` for no nodes) or ``end``. What a person should
know goes to stderr. Torch is imported only where there are fewer nodes than asked for, so it
starts fast.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from convbert.cluster import decisions
from convbert.cluster.division import largest_share
from convbert.cluster.hostlist import expand
from convbert.cluster.preflight.verdict import conclude
from convbert.cluster.records import Attempt, JobRecords
from convbert.cluster.site import PreflightLimits

LOG_BYTES = 1 << 20
MARK = "convbert: attempt "
GO, REFUSED, NOTHING_LEFT = 0, 1, 3


def begin(records: JobRecords, retries: int) -> int:
    """Note the attempt, unless the run is complete or has failed too often."""
    if records.finished():
        _say(f"convbert: finished at step {records.last_step()}; nothing left to do")
        return NOTHING_LEFT
    job, restart = identity()
    now = Attempt(
        job=job,
        restart=restart,
        nodes=expand(os.environ.get("SLURM_JOB_NODELIST", "")),
        begun=time.time(),
        step=records.last_step(),
    )
    row = decisions.failures_in_a_row(records.attempts(job), now.step)
    refusal = decisions.exhausted(row, retries)
    if refusal:
        _say(f"convbert: not started again: {refusal}")
        return REFUSED
    records.note(now)
    _say(f"{MARK}{restart + 1} of job {job} from step {now.step} on {' '.join(now.nodes)}")
    return GO


def preflight(records: JobRecords, given: argparse.Namespace) -> int:
    """Judge the nodes' reports; remember bad nodes so that the next attempt avoids them.

    Returns 0 to go on, 76 where nodes are unfit, 78 where the check was cut off.
    """
    verdict = conclude(
        records.run_dir,
        given.code,
        given.policy,
        given.limits,
        partial(share, records, given),
    )
    if verdict.bad and given.policy != "ignore":
        records.exclude(verdict.bad)
    if not verdict.use:
        current = _current(records)
        records.note(current.model_copy(update={"failed_nodes": sorted(verdict.bad)}))
        return decisions.BAD_NODE if verdict.bad or not verdict.unchecked else decisions.UNCHECKED
    _print_nodes(verdict.use, given.per_node)
    return GO


def share(records: JobRecords, given: argparse.Namespace, nodes: Sequence[str]) -> list[str]:
    """Return as many of ``nodes`` as the run can train on; say so where these are not all."""
    use = largest_share(
        records.run_dir, nodes, least=given.least, most=given.most, per_node=given.per_node
    )
    if len(use) < len(nodes):
        _say(
            f"convbert: of {len(nodes)} nodes {len(use) or 'none'} can train: the processes of "
            f"{given.least} or more nodes must divide the global batch of every phase"
        )
    return use


def _print_nodes(use: Sequence[str], per_node: int) -> None:
    """Print srun's options for the nodes to train on, if these are not all of the job."""
    count = len(use)
    if count < len(expand(os.environ["SLURM_JOB_NODELIST"])):
        print(f"--nodelist={','.join(use)} --nodes={count} --ntasks={count * per_node}")


def end(
    records: JobRecords, code: int, log: Path, *, cancelled: bool, retries: int, least: int
) -> str:
    """Note how the attempt ended and return the decision's line."""
    current = _current(records)
    text = _tail(log)
    stopping = records.stop_requested(current.job)
    outcome = decisions.classify(code, text, cancelled=cancelled, stopping=stopping)
    failed = current.failed_nodes or decisions.to_blame(outcome, text, current.nodes)
    changes = {
        "ended": time.time(),
        "end_step": records.last_step(),
        "outcome": outcome,
        "code": code,
        "failed_nodes": failed,
    }
    records.note(current.model_copy(update=changes))
    decision = decisions.decide(records, current.job, retries, least)
    _say(f"convbert: {'requeued' if decision.requeue else 'ended'}: {decision.reason}")
    return f"requeue {','.join(decision.exclude) or '-'}" if decision.requeue else "end"


def identity() -> tuple[str, int]:
    """Return the job as squeue shows it, ``12`` or ``12_0``, and how often it was requeued."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{n}") for n in ("JOB_ID", "TASK_ID"))
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    return job, int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def _current(records: JobRecords) -> Attempt:
    job, restart = identity()
    return next(a for a in records.attempts(job) if a.restart == restart)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _tail(log: Path) -> str:
    """Return the last part of the log since this attempt began."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_BYTES))
        text = file.read().decode(errors="replace")
    return text.rpartition(MARK)[2]


def main(arguments: list[str]) -> int:
    """Parse and run; the exit code is the job script's branch."""
    parser = argparse.ArgumentParser(prog="convbert.cluster.attempt")
    parser.add_argument("event", choices=("begin", "preflight", "share", "end"))
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--retries", type=int, required=True)
    parser.add_argument("--code", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path())
    parser.add_argument("--cancelled", action="store_true")
    parser.add_argument("--policy", choices=("requeue", "continue", "ignore"), default="requeue")
    parser.add_argument("--least", type=int, default=1)
    parser.add_argument("--most", type=int, default=0)
    parser.add_argument("--per-node", type=int, default=1)
    parser.add_argument(
        "--limits", type=PreflightLimits.model_validate_json, default=PreflightLimits()
    )
    given = parser.parse_args(arguments)
    records = JobRecords(given.run)
    if given.event == "begin":
        return begin(records, given.retries)
    if given.event == "preflight":
        return preflight(records, given)
    if given.event == "share":
        nodes = expand(os.environ["SLURM_JOB_NODELIST"])
        _print_nodes(share(records, given, nodes) or nodes, given.per_node)
        return GO
    line = end(
        records,
        given.code,
        given.log,
        cancelled=given.cancelled,
        retries=given.retries,
        least=given.least,
    )
    print(line)
    return GO


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
