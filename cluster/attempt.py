"""``python -m convbert.cluster.attempt EVENT``: what a job script records of an attempt.

The events of one attempt, one start of a job, in the order in which the script calls them. Their
exit statuses are those of ``pretrain.run.exit_codes``:

``begin``      0 to go on, ``FAILED`` at the limit of failures, ``NOTHING_LEFT`` in a finished run
               and in a job that was asked to stop;
``preflight``  prints srun's options for the nodes to train on, if these are not all; ``BAD_NODE``
               where nodes are unfit, ``UNCHECKED`` where the check was cut off, ``USER_ERROR``
               where the site profile asks for what no node has;
``share``      prints these options without a check;
``end``        reads ``CODE TERMINATED``, the step's exit status and 1 if SLURM ended the job, and
               prints ``requeue NODE,NODE`` (``-`` for no nodes) or ``end``;
``refused``    SLURM did not requeue the job; ``--job`` is what was queued in its place, if any.

Messages for a person go to stderr.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from convbert.cluster import decisions
from convbert.cluster.elastic import usable_nodes
from convbert.cluster.hostlist import expand
from convbert.cluster.preflight.verdict import conclude
from convbert.cluster.records import Attempt, JobRecords, identity
from convbert.cluster.site import PreflightLimits
from convbert.models.errors import TransientError, UserError
from convbert.pretrain.run.exit_codes import (
    BAD_NODE,
    FAILED,
    NOTHING_LEFT,
    TRANSIENT,
    UNCHECKED,
    USER_ERROR,
)

_LONGEST_LINE = 1 << 16  # bytes
MARK = "convbert: attempt "


def begin(records: JobRecords, given: argparse.Namespace) -> int:
    """Record the attempt, unless the run is complete, was stopped or has failed too often."""
    step = records.run.last_step()
    job, restart = identity()
    if job not in (s.job for s in records.submissions()):  # somebody called sbatch by hand
        records.submitted(job, "pretrain", given.log, new=False)
    if records.finished():
        _say(f"convbert: finished at step {step}; nothing left to do")
        return NOTHING_LEFT
    if records.stop_requested(job):
        _say("convbert: stopped on request; `convbert submit` continues")
        return NOTHING_LEFT
    nodes = _allocated()
    row = decisions.failures_in_a_row(records.attempts(job), step)
    refusal = decisions.exhausted(row, given.retries)
    if refusal:
        _say(f"convbert: not started again: {refusal}")
        return FAILED
    records.note(Attempt(job=job, restart=restart, nodes=nodes, begun=time.time(), step=step))
    _say(f"{MARK}{restart + 1} of job {job} from step {step} on {_node_list()}")
    return 0


def preflight(records: JobRecords, given: argparse.Namespace) -> int:
    """Judge the nodes' reports; record bad nodes so that the next attempt avoids them.

    A node that only sent no report may have been slow: it is avoided after the second time.
    """
    verdict = conclude(
        records.run.path,
        given.code,
        given.policy,
        given.limits,
        partial(_usable, records, given),
        decisions.ended_by_themselves(said(given.log)),
    )
    before = {node for attempt in records.attempts() for node in attempt.silent_nodes}
    bad = {n: t for n, t in verdict.bad.items() if n not in verdict.silent or n in before}
    if bad and given.policy != "ignore":
        records.exclude(bad)
    changes: dict[str, object] = {"silent_nodes": sorted(verdict.silent)}
    if not verdict.use:
        changes["failed_nodes"] = sorted(verdict.bad)
    records.note(_current(records).model_copy(update=changes))
    if verdict.use:
        _print_nodes(verdict.use, given.per_node)
        return 0
    if verdict.refused:
        return USER_ERROR
    return UNCHECKED if verdict.unchecked and not verdict.bad else BAD_NODE


def share(records: JobRecords, given: argparse.Namespace) -> int:
    """Print srun's options for as many nodes as the run can train on, or for all."""
    nodes = _allocated()
    _print_nodes(_usable(records, given, nodes) or nodes, given.per_node)
    return 0


def end(records: JobRecords, given: argparse.Namespace) -> int:
    """Wait for the attempt's end, record it and print the decision.

    It is started while the processes save, because Python may start slowly and the time is short.
    """
    line = sys.stdin.readline().split()
    if not line:  # the script was killed
        return FAILED
    code, terminated = int(line[0]), line[1] == "1"
    current = _current(records)
    text = said(given.log)
    stopping = records.stop_requested(current.job)
    outcome = decisions.classify(code, text, terminated=terminated, stopping=stopping)
    failed = current.failed_nodes or decisions.to_blame(outcome, text, current.nodes)
    changes = {
        "ended": time.time(),
        "end_step": records.run.last_step(),
        "outcome": outcome,
        "code": code,
        "failed_nodes": failed,
    }
    records.note(current.model_copy(update=changes))
    why = decisions.why_terminated(text) if terminated else None
    decision = decisions.decide(records, current.job, given.retries, given.least, why=why)
    _say(f"convbert: {'to be continued' if decision.requeue else 'ended'}: {decision.reason}")
    print(f"requeue {','.join(decision.exclude) or '-'}" if decision.requeue else "end")
    return 0


def refused(records: JobRecords, given: argparse.Namespace) -> int:
    """Record that SLURM did not requeue the job, and the successor, if there is one."""
    changes: dict[str, object] = {"requeue_refused": True}
    if given.job:
        changes["successor"] = given.job
        records.submitted(given.job, "pretrain", given.log.with_name(f"{given.job}.log"))
    records.note(_current(records).model_copy(update=changes))
    return 0


def _node_list() -> str:
    """Return the job's nodes as SLURM writes them, ``node[0-63]``."""
    return os.environ.get("SLURM_JOB_NODELIST", "")


def _allocated() -> list[str]:
    return expand(_node_list())


def _usable(records: JobRecords, given: argparse.Namespace, nodes: Sequence[str]) -> list[str]:
    """Return as many of ``nodes`` as the run can train on; print a message if these are not all."""
    use = usable_nodes(
        records.run.path, nodes, least=given.least, most=given.most, per_node=given.per_node
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
    if count < len(_allocated()):
        print(f"--nodelist={','.join(use)} --nodes={count} --ntasks={count * per_node}")


def _current(records: JobRecords) -> Attempt:
    job, restart = identity()
    found = records.attempts(job)
    return next(a for a in reversed(found) if (a.job, a.restart) == (job, restart))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def said(log: Path) -> str:
    """Return what SLURM and the guards have said in the log since this attempt began."""
    if not log.is_file():
        return ""
    kept: list[bytes] = []
    with log.open("rb") as file:
        for line in iter(partial(file.readline, _LONGEST_LINE), b""):
            if line.startswith(MARK.encode()):
                kept = []
            elif decisions.TELLING.search(line):
                kept.append(line)
    return b"".join(kept).decode(errors="replace")


def main(arguments: list[str]) -> int:
    """Parse the arguments and handle the event; the script branches on the exit status."""
    events = {f.__name__: f for f in (begin, preflight, share, end, refused)}
    parser = argparse.ArgumentParser(prog="convbert.cluster.attempt")
    parser.add_argument("event", choices=events)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--retries", type=int, required=True)
    parser.add_argument("--code", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--job", default="")
    parser.add_argument("--policy", choices=("requeue", "continue", "ignore"), default="requeue")
    parser.add_argument("--least", type=int, default=1)
    parser.add_argument("--most", type=int, default=0)
    parser.add_argument("--per-node", type=int, default=1)
    parser.add_argument(
        "--limits", type=PreflightLimits.model_validate_json, default=PreflightLimits()
    )
    given = parser.parse_args(arguments)
    try:
        return events[given.event](JobRecords(given.run), given)
    except UserError as error:
        _say(f"convbert: {error}")
        return TRANSIENT if isinstance(error, TransientError) else USER_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
