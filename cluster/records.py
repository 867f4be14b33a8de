"""The records of jobs in ``RUN/slurm``, which decide the next attempt and which status shows.

``jobs.jsonl``      one line per submitted job;
``attempts.jsonl``  one line when an attempt begins and one when it ends; an attempt without an end
                    was killed together with its node;
``excluded.json``   nodes that failed, with the reason;
``evaluated.json``  the evaluated steps, each with its job array;
``stops/JOB``       `convbert stop` asked this job to end: it must not go back into the queue.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import Field, RootModel

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.schema import Model, StrictModel, parse, read_record
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.settings.places import Place, fate

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
    "lost",  # a node died, or no end was recorded: the grace time was too short
]
EVALUATED = "evaluated.json"
"""The evaluated steps in ``RUN/slurm``, each with the job array that was queued for it."""

_STOP_COUNTS = 86_400.0
"""Seconds after which a request to stop is an old one, of a job that had the same number."""


class Submission(StrictModel):
    """A job that was queued for the run."""

    job: str
    kind: str
    time: float
    log: str = Field(description="relative to the run directory")
    detail: str = ""
    place: Place | None = Field(None, description="of the run that it was submitted for")


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
    silent_nodes: list[str] = Field([], description="of failed_nodes, those that sent no report")
    requeue_refused: bool = False
    successor: str | None = Field(None, description="job that continues in the place of this one")


class _Table(RootModel[dict[str, str]]):
    """A JSON object of strings."""


def identity() -> tuple[str, int]:
    """Return this job as squeue shows it, ``12`` or ``12_0``, and how often it was requeued."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{n}") for n in ("JOB_ID", "TASK_ID"))
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    return job, int(os.environ.get("SLURM_RESTART_COUNT") or 0)


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


def _is_torn(file: BinaryIO) -> bool:
    """Return whether the last line has no end: a node died, or the disk was full, meanwhile."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


class JobRecords:
    """The records of one run directory; every change is one appended line or an atomic file."""

    def __init__(self, run_dir: Path) -> None:
        self.run = RunDirectory(run_dir)
        self.folder = run_dir / "slurm"

    def finished(self) -> bool:
        """Return whether the run has a configuration and its last update is in a checkpoint."""
        return self.run.config_file.is_file() and self.run.finished(self.run.open())

    def submitted(self, job: str, kind: str, log: Path, *, new: bool = True) -> None:
        """Record a job and the place of its log.

        A ``new`` one has just been queued: no request to stop it can be meant for it.
        """
        if new:
            self._stop(job).unlink(missing_ok=True)
        place = os.path.relpath(log, self.run.path)
        here = Place.of(self.run.path)
        entry = Submission(job=job, kind=kind, time=time.time(), log=place, place=here)
        self._append("jobs.jsonl", entry.model_dump(mode="json"))

    def submissions(self) -> list[Submission]:
        """Return the queued jobs, oldest first; of jobs with one number, the newest.

        Those of the run that this one is a copy of are its own.
        """
        found: dict[str, Submission] = {}
        for entry in self._lines("jobs.jsonl", Submission):
            found.pop(entry.job, None)
            if fate(self.run.path, entry.place) != "copied":
                found[entry.job] = entry
        return list(found.values())

    def note(self, attempt: Attempt) -> None:
        """Record an attempt as it stands now; the last record of an attempt counts."""
        self._append("attempts.jsonl", attempt.model_dump())

    def attempts(self, job: str | None = None) -> list[Attempt]:
        """Return the attempts of all jobs, or of one and of those that it continues, oldest first.

        A number that SLURM gave to two jobs, before and after it lost its memory, means the newer.
        """
        found: dict[tuple[str, int, float], Attempt] = {}
        for attempt in self._lines("attempts.jsonl", Attempt):
            found[attempt.job, attempt.restart, attempt.begun] = attempt
        if job is None:
            return list(found.values())
        chosen: list[Attempt] = []
        wanted = job
        for attempt in reversed(found.values()):
            complete = bool(chosen) and (chosen[-1].job, chosen[-1].restart) == (wanted, 0)
            if attempt.job == wanted and not complete:
                chosen.append(attempt)
            elif attempt.successor == wanted:
                wanted = attempt.job
                chosen.append(attempt)
        return chosen[::-1]

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
        """Record that ``job`` must not go back into the queue."""
        path = self._stop(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch()

    def stop_requested(self, job: str) -> bool:
        """Return whether this job was asked to stop."""
        try:
            return self._stop(job).stat().st_mtime > time.time() - _STOP_COUNTS
        except FileNotFoundError:
            return False

    def _stop(self, job: str) -> Path:
        return self.folder / "stops" / job

    def _append(self, name: str, entry: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps(entry).encode() + b"\n"
        with (self.folder / name).open("a+b") as file:
            if _is_torn(file):
                line = b"\n" + line
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
