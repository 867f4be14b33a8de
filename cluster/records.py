"""What jobs leave in ``RUN/slurm``: the facts that decide the next attempt and that status shows.

``jobs.jsonl``      one line per submitted job;
``attempts.jsonl``  a line when an attempt begins and another when it ends, so an attempt without an
                    end was killed together with its node;
``excluded.json``   nodes that failed, with the reason;
``stop``            the job that `convbert stop` asked to end.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.schema import StrictModel

Outcome = Literal[
    "finished",  # the run is complete
    "saved",  # stopped with a checkpoint: time limit or preemption
    "stopped",  # `convbert stop`
    "cancelled",  # scancel
    "refused",  # a user error: trying again cannot help
    "out of memory",
    "bad node",  # preflight found one
    "unchecked",  # preflight was cut off: cancelled, preempted or not started
    "crashed",
    "hung",  # the watchdog ended it
    "interrupted",  # by an error that may pass, such as a file system's
    "lost",  # no end was recorded: the node died, or the grace time was too short
]


class Submission(StrictModel):
    """A job that was queued for the run."""

    job: str
    kind: str
    time: float
    log: str = Field(description="relative to the run directory")
    detail: str = ""


class Attempt(StrictModel):
    """One start of a job; ``step`` values are the newest checkpoint's before and after."""

    job: str
    restart: int
    nodes: list[str]
    begun: float
    step: int
    ended: float | None = None
    end_step: int | None = None
    outcome: Outcome = "lost"
    code: int | None = None
    failed_nodes: list[str] = Field(default_factory=list)


class JobRecords:
    """The records of one run directory; every change is one appended line or an atomic file."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.folder = run_dir / "slurm"

    def checkpoint_steps(self) -> list[int]:
        """Return the steps that have a finished checkpoint, oldest first."""
        names = (p.name for p in (self.run_dir / "checkpoints").glob("step-*"))
        return sorted(int(n[5:]) for n in names if re.fullmatch(r"step-\d+", n))

    def last_step(self) -> int:
        """Return the newest checkpoint's step, 0 without one."""
        return max(self.checkpoint_steps(), default=0)

    def config(self) -> dict[str, Any]:
        """Return the run's resolved configuration as plain data, empty without one."""
        path = self.run_dir / "config.yaml"
        return yaml.safe_load(path.read_text()) if path.is_file() else {}

    def finished(self) -> bool:
        """Whether the last update of the configuration is in a checkpoint."""
        return self.config().get("steps") == self.last_step() != 0

    def submitted(self, job: str, kind: str, log: Path, detail: str = "") -> None:
        """Note a queued job and where its log will lie."""
        place = os.path.relpath(log, self.run_dir)
        entry = Submission(job=job, kind=kind, time=time.time(), log=place, detail=detail)
        self._append("jobs.jsonl", entry.model_dump())

    def submissions(self) -> list[Submission]:
        """Return the queued jobs, oldest first."""
        return [Submission.model_validate(line) for line in self._lines("jobs.jsonl")]

    def note(self, attempt: Attempt) -> None:
        """Record an attempt as it stands now; the last record of an attempt counts."""
        self._append("attempts.jsonl", attempt.model_dump())

    def attempts(self, job: str | None = None) -> list[Attempt]:
        """Return the attempts, of one job or all, in the order of their beginning."""
        found: dict[tuple[str, int], Attempt] = {}
        for line in self._lines("attempts.jsonl"):
            attempt = Attempt.model_validate(line)
            if job in (None, attempt.job):
                found[attempt.job, attempt.restart] = attempt
        return list(found.values())

    def excluded(self) -> dict[str, str]:
        """Return the nodes not to use, with the reason."""
        path = self.folder / "excluded.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def exclude(self, nodes: dict[str, str]) -> None:
        """Add nodes not to use."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / "excluded.json") as file:
            file.write(json.dumps(self.excluded() | nodes, indent=1).encode() + b"\n")

    def request_stop(self, job: str) -> None:
        """Ask the run of ``job`` not to requeue itself."""
        with atomic_write(self.folder / "stop") as file:
            file.write(job.encode())

    def stop_requested(self, job: str) -> bool:
        """Whether this job was asked to stop."""
        path = self.folder / "stop"
        return path.is_file() and path.read_text() == job

    def _append(self, name: str, entry: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps(entry).encode() + b"\n"
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.folder / name
        if not path.is_file():
            return
        for line in path.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:  # a node died while it wrote
                continue
