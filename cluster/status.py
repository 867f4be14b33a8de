"""One table of runs: the queue's state beside the content of the run directories."""

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from convbert.cluster.jobs import RunJobs, jobs_of
from convbert.cluster.records import EVALUATED, JobRecords, read_table
from convbert.cluster.scheduler import Job
from convbert.models.errors import AbsentError, TransientError, UserError
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.claim import claimed_by_training
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.tracking.metrics_log import FILE_NAME
from convbert.pretrain.tracking.records import StepRecord, decode
from convbert.pretrain.tracking.tracked_run import RUN_FILE, TrackedRun, links_of

_BLOCK_BYTES = 1 << 16
_ENDED = {
    "finished": "finished",
    "saved": "stopped with a checkpoint",
    "stopped": "stopped on request",
    "lost": "lost: node failure or killed",
    "refused": "refused: see the log",
    "unchecked": "preflight was cut off: see the log",
    "interrupted": "interrupted: see the log",
}
_REFUSED = ", but SLURM refused to requeue it: submit it again"


@dataclass(frozen=True)
class RunStatus:
    """The state of one run; ``seconds_*`` are None where they are unknown."""

    name: str
    state: str
    job: str
    step: int
    steps: int | None
    values: dict[str, float]
    checkpoint: int
    seconds_to_end: float | None
    seconds_to_limit: float | None
    mlflow: str
    evaluations: str = ""


_NUMBERS = ("step", "tokens", "loss", "tokens/s", "to the end", "to the limit")
HEADINGS = ("run", "state", "job", *_NUMBERS, "checkpoint", "evaluations", "MLflow")
TEXT = ("run", "state", "job", "checkpoint", "evaluations", "MLflow")
"""Of the headings, those above words."""


def overview(run_dirs: Sequence[Path]) -> tuple[list[list[str]], str]:
    """Return a row for each run, and a note of one line; SLURM is asked once for all of them."""
    jobs: dict[Path, RunJobs] = {}
    note = ""
    try:
        jobs = jobs_of([path for path in run_dirs if _readable(path)])
    except AbsentError:
        note = "without the queue: this machine has no squeue"
    except TransientError as error:
        note = f"without the queue: {error}"
    rows = []
    for run_dir in run_dirs:
        try:
            rows.append(_row(run_status(run_dir, jobs.get(run_dir, RunJobs()))))
        except UserError as error:  # the other runs are shown all the same
            unknown = [""] * (len(HEADINGS) - 2)
            rows.append([str(run_dir), f"unreadable: {error}", *unknown])
    return rows, note


def shown_at(run_dirs: Sequence[Path]) -> list[str]:
    """Return lines that say where MLflow shows the runs, each once."""
    lines: dict[str, None] = {}
    for run_dir in run_dirs:
        with contextlib.suppress(UserError):  # its row says what cannot be read
            lines |= dict.fromkeys(links_of(run_dir))
    return list(lines)


def _readable(run_dir: Path) -> bool:
    """Return whether a run's records can be read; damage is shown where its row is made."""
    try:
        JobRecords(run_dir).submissions()
        read_table(run_dir / "slurm" / EVALUATED)
    except UserError:
        return False
    return True


def run_status(run_dir: Path, found: RunJobs) -> RunStatus:
    """Return the state of one run, from its directory and from its jobs, as SLURM knows them."""
    records = JobRecords(run_dir)
    records.submissions()  # raises where they are damaged
    last = last_metrics(run_dir / FILE_NAME)
    checkpoint = records.run.last_step()  # of a branch, say, that was not trained yet
    values, step = (last.values, last.step) if last else ({}, checkpoint)
    steps = records.run.open().steps if records.run.config_file.is_file() else None
    # Of a chain the running job is shown, not those that wait for it.
    job = next((j for j in found.active if j.state == "RUNNING"), None)
    job = job or next(iter([*found.active, *found.jobs[::-1]]), None)
    submitted = records.submissions()
    pace = values.get(metric_names.STEP_SECONDS)
    return RunStatus(
        name=str(run_dir),
        state=_state(records, job),
        job=job.id if job else (submitted[-1].job if submitted else ""),
        step=step,
        steps=steps,
        values=values,
        checkpoint=checkpoint,
        seconds_to_end=(steps - step) * pace if pace and steps else None,
        seconds_to_limit=job.seconds_left if job and job.state == "RUNNING" else None,
        mlflow=_mlflow(run_dir),
        evaluations=_evaluations(run_dir, found.evaluations),
    )


def _state(records: JobRecords, job: Job | None) -> str:
    """Return the queue's word for waiting and running jobs, else how the last attempt ended."""
    if job is not None and job.active:
        waits = job.reason if job.state == "PENDING" and job.reason != "None" else job.nodes
        return f"{job.state.lower()} ({waits})" if waits else job.state.lower()
    whole = _finished(records)
    if whole is not None:
        return "finished" if whole else "last checkpoint damaged: start it again"
    attempts = records.attempts()
    ended = job.state.lower().replace("_", " ") if job else None
    if job is not None and ended == "cancelled" and records.stop_requested(job.id):
        ended = _ENDED["stopped"]
    if not attempts:
        return _without_attempts(records, ended)
    last = attempts[-1]
    # Without a record of its end SLURM's state may name the cause, and a job that was cancelled in
    # the queue has no attempt.
    cut = job is not None and (last.ended is None or last.job != job.id)
    if ended and cut and ended not in ("running", "completed"):
        return ended
    state = _ENDED.get(last.outcome, last.outcome)
    state = f"{state} ({','.join(last.failed_nodes)})" if last.failed_nodes else state
    return state + _REFUSED if last.requeue_refused and last.successor is None else state


def _without_attempts(records: JobRecords, ended: str | None) -> str:
    """Return how the last job ended that keeps no attempts: a corpus build, or one in the queue."""
    submitted = records.submissions()
    if not submitted:
        return ended or _without_jobs(records.run)
    file = records.folder / f"{submitted[-1].job}.status"
    if not file.is_file():  # it may run where no queue could be asked
        started = (records.run.path / submitted[-1].log).is_file()
        return ended or ("started: see the log" if started else "submitted")
    left = file.read_text().strip()
    return {"0": "finished", "stopped": _ENDED["stopped"]}.get(left, "failed: see the log")


def _without_jobs(run: RunDirectory) -> str:
    """Return what a directory is that SLURM never had: also a run that was started by hand."""
    if not run.path.is_dir():
        return "no such directory"
    if not run.config_file.is_file():
        return "no run, not submitted"
    with contextlib.suppress(UserError):  # whoever may not lock it still sees the rest
        if claimed_by_training(run.path):
            return "training without SLURM"
    return "not submitted, not training"


def _evaluations(run_dir: Path, evaluations: Mapping[str, Sequence[Job]]) -> str:
    """Count the tasks of all evaluations by state: SLURM's, or what the script left at its end."""
    states: dict[str, str] = {}
    for jobs in evaluations.values():
        states |= {job.id: job.state.lower().replace("_", " ") for job in jobs}
    for step, array in read_table(run_dir / "slurm" / EVALUATED).items():
        for path in (run_dir / "slurm").glob(f"evaluate-{array}_*.status"):
            task = path.stem.removeprefix("evaluate-")
            ended = "completed" if path.read_text().split() == ["0"] else "failed"
            states.setdefault(task, ended)
        if not any(task.partition("_")[0] == array for task in states):
            states[array] = f"unknown (step {step})"
    counts = Counter(states.values())
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def _finished(records: JobRecords) -> bool | None:
    run = records.run
    return run.looks_finished(run.open()) if run.config_file.is_file() else None


def last_metrics(path: Path) -> StepRecord | None:
    """Return the last training record of ``metrics.jsonl``, None without one.

    Evaluations may have written thousands of records behind it.
    """
    if not path.is_file():
        return None
    for line in _lines_backwards(path):
        try:
            record = decode(line)
        except ValueError:  # the file's last line may be torn
            continue
        if isinstance(record, StepRecord):
            return record
    return None


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, the last one first."""
    with path.open("rb") as file:
        end, first = os.fstat(file.fileno()).st_size, b""
        while end:
            start = max(0, end - _BLOCK_BYTES)
            file.seek(start)
            first, *lines = (file.read(end - start) + first).split(b"\n")
            yield from reversed(lines)
            end = start
        yield first


def _mlflow(run_dir: Path) -> str:
    if not (run_dir / RUN_FILE).is_file():
        return ""
    state = TrackedRun.load(run_dir).state
    return f"{state.status} {state.run_id or 'not delivered yet'}"


def _row(status: RunStatus) -> list[str]:
    def metric(name: str, form: str) -> str:
        return format(status.values[name], form) if name in status.values else ""

    return [
        status.name,
        status.state,
        status.job,
        f"{status.step:,}/{status.steps:,}" if status.steps else "",
        metric(metric_names.TOKENS, ".3g"),
        metric(metric_names.LOSS_TOTAL, ".3f"),
        metric(metric_names.TOKENS_PER_SECOND, ",.0f"),
        _duration(status.seconds_to_end),
        _duration(status.seconds_to_limit),
        f"step {status.checkpoint:,}" if status.checkpoint else "none" if status.steps else "",
        status.evaluations,
        status.mlflow,
    ]


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))
