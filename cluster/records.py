"""The records of jobs in ``RUN/slurm``, which decide the next attempt and which status shows.

``jobs.jsonl``      one line per submitted job;
``attempts.jsonl``  one line when an attempt begins and one when it ends; an attempt without an end
                    was killed together with its node;
``excluded.json``   nodes that failed, with the reason;
``stop``            the job that `convbert stop` asked to end.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, RootModel

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import AbsentError
from convbert.models.schema import Model, StrictModel, parse, read_record
from convbert.pretrain.run.directory import RunDirectory

Outcome = Literal[
    "finished",  # the run is complete
    "saved",  # stopped with a checkpoint: time limit or preemption
    "stopped",  # `convbert stop`
    "cancelled",  # scancel
    "refused",  # a user error: another attempt cannot help
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
    """One start of a job; the ``step`` values are the newest checkpoint's before and after."""

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


class _Table(RootModel[dict[str, str]]):
    """A JSON object of strings."""


def read_table(path: Path) -> dict[str, str]:
    """Read a JSON object of strings that a person may have edited; an absent file has none."""
    if not path.is_file():
        return {}
    what, remedy = "a JSON object of strings", "correct it or delete the file"
    return read_record(_Table, path, what=what, remedy=remedy).root


def write(directory: Path, name: str, content: str) -> Path:
    """Write ``slurm/NAME`` in ``directory`` atomically and return its path."""
    path = directory / "slurm" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(content.encode())
    return path


def write_table(directory: Path, name: str, table: dict[str, str]) -> None:
    """Write ``slurm/NAME`` in ``directory`` as a JSON object."""
    write(directory, name, json.dumps(table, indent=1) + "\n")


class JobRecords:
    """The records of one run directory; every change is one appended line or an atomic file."""

    def __init__(self, run_dir: Path) -> None:
        self.run = RunDirectory(run_dir)
        self.folder = run_dir / "slurm"

    def finished(self) -> bool:
        """Return whether the run has a configuration and its last update is in a checkpoint."""
        return self.run.config_file.is_file() and self.run.finished(self.run.open())

    def submitted(self, job: str, kind: str, log: Path) -> None:
        """Record a queued job and the place of its log."""
        place = os.path.relpath(log, self.run.path)
        entry = Submission(job=job, kind=kind, time=time.time(), log=place)
        self._append("jobs.jsonl", entry.model_dump())

    def submissions(self) -> list[Submission]:
        """Return the queued jobs, oldest first."""
        return list(self._lines("jobs.jsonl", Submission))

    def newest_log(self) -> Path:
        """Return the log of the newest job; raise ``AbsentError`` if there is none yet."""
        found = self.submissions()
        if not found:
            raise AbsentError(
                f"{self.run.path}: no job was submitted for it; see `convbert submit --help`"
            )
        log = (self.run.path / found[-1].log).resolve()
        if not log.is_file():
            raise AbsentError(f"{log}: not there yet; the job has not started")
        return log

    def note(self, attempt: Attempt) -> None:
        """Record an attempt as it stands now; the last record of an attempt counts."""
        self._append("attempts.jsonl", attempt.model_dump())

    def attempts(self, job: str | None = None) -> list[Attempt]:
        """Return the attempts of one job or of all jobs, in the order of their beginning."""
        found: dict[tuple[str, int], Attempt] = {}
        for attempt in self._lines("attempts.jsonl", Attempt):
            if job in (None, attempt.job):
                found[attempt.job, attempt.restart] = attempt
        return list(found.values())

    def excluded(self) -> dict[str, str]:
        """Return the nodes not to use, each with the reason."""
        return read_table(self.folder / "excluded.json")

    def exclude(self, nodes: dict[str, str]) -> None:
        """Add nodes not to use, each with the reason."""
        write_table(self.run.path, "excluded.json", self.excluded() | nodes)

    def exclude_option(self, always: str | None) -> list[str]:
        """Return sbatch's option for the nodes not to use, those in ``always`` included."""
        nodes = [*self.excluded(), *([always] if always else [])]
        return [f"--exclude={','.join(nodes)}"] if nodes else []

    def request_stop(self, job: str) -> None:
        """Record that ``job`` must not requeue itself."""
        write(self.run.path, "stop", job)

    def stop_requested(self, job: str) -> bool:
        """Return whether this job was asked to stop."""
        path = self.folder / "stop"
        return path.is_file() and path.read_text() == job

    def _append(self, name: str, entry: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps(entry).encode() + b"\n"
        with (self.folder / name).open("ab") as file:
            file.write(line)  # in one call of the system: several processes may append
            file.flush()
            os.fsync(file.fileno())

    def _lines(self, name: str, kind: type[Model]) -> Iterator[Model]:
        path = self.folder / name
        if not path.is_file():
            return
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            try:
                json.loads(line)
            except (ValueError, RecursionError):  # a node died while it wrote the line
                continue
            place, remedy = f"{path}:{number}", "remove that line"
            yield parse(kind, line, place, what="a record of a job", remedy=remedy)
