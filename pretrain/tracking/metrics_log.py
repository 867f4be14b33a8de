"""``metrics.jsonl``, which is written before anything is sent, and its inbox.

The file has one writer, the process that holds the claim on the run. An evaluation, which does not
train the run, leaves its records as a file in ``inbox/`` when it is finished. The process that
trains appends them to the log as if they were its own; if none does, whoever opens the run next.
"""

import logging
import mmap
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from io import BufferedReader, FileIO
from pathlib import Path

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import DamagedError, UserError
from convbert.pretrain.tracking.records import (
    REPEAT,
    RESTART,
    CurvePoint,
    EventRecord,
    MetricsRecord,
    StepRecord,
    decode,
    encode,
    now,
)

FILE_NAME = "metrics.jsonl"
INBOX = "inbox"

logger = logging.getLogger(__name__)


class MetricsLog:
    """Append-only writer of one ``metrics.jsonl``; each record is one ``write`` system call.

    A killed process therefore loses at most the line it was writing, which the next opening
    drops. ``sync`` makes the file survive a power failure too.
    """

    def __init__(self, path: Path, *, resume_step: int | None = None) -> None:
        """Open ``path`` for appending; with ``resume_step`` drop what came after that step.

        What lies in the inbox was measured before and is dropped likewise.
        """
        self.path = path
        repair(path)
        self._file = _opened(path, "ab")
        if resume_step is not None:
            self.take_inbox()
            self.rewind(resume_step)

    def append(self, record: MetricsRecord) -> None:
        """Write one record; if the disk is too full for it, raise ``OSError`` and leave no part."""
        line = encode(record)
        start = self._file.seek(0, os.SEEK_END)
        try:
            while line:  # a disk that fills up takes a part and refuses the rest
                line = line[self._file.write(line) :]
        except OSError:
            self._file.truncate(start)
            raise

    def take_inbox(self) -> None:
        """Append what lies in the inbox.

        A crash in between repeats records; the delivery to MLflow sends each value once. A damaged
        file is renamed, since whoever trains the run goes on without it.
        """
        for path in inbox(self.path.parent):
            try:
                records = list(read_records(path))
                if repair(path):
                    raise DamagedError(f"{path}: is cut off; evaluate again")
            except UserError as error:
                aside = path.rename(path.with_name(f".damaged-{path.name}"))
                logger.warning("%s; kept as %s", error, aside.name)
                continue
            for record in records:
                self.append(record)
            self.sync()
            path.unlink()

    def rewind(self, step: int, note: EventRecord | None = None) -> None:
        """Drop everything after optimizer step ``step``, and note which steps were there.

        They are trained again, perhaps to other values, which a server that has the old ones must
        learn. A ``note`` that is dropped lives on in the next one; without one it is a restart.
        """
        last = _reached(self.path, step)
        rewind(self.path, step)  # a full disk leaves all as it is
        self._file.close()
        self._file = _opened(self.path, "ab")
        if note is not None:
            last = max(last, int(note.facts["step"]))
            self.append(replace(note, facts=note.facts | {"step": float(last)}))
        elif last > step:
            self.append(EventRecord(RESTART, REPEAT, step + 1, now(), {"step": float(last)}))

    def sync(self) -> None:
        """Force what was written to the disk; to be called before a checkpoint is committed."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing can be appended afterwards."""
        self._file.close()


def hand_in(run_dir: Path, records: Iterable[MetricsRecord]) -> None:
    """Put records into the inbox of a run, all in one file that appears whole."""
    folder = run_dir / INBOX
    folder.mkdir(exist_ok=True)
    with atomic_write(folder / f"{time.time_ns()}-{uuid.uuid4().hex[:8]}.jsonl") as file:
        file.writelines(map(encode, records))


def inbox(run_dir: Path) -> list[Path]:
    """Return the files in the inbox of a run, oldest first."""
    return sorted((run_dir / INBOX).glob("[!.]*.jsonl"))


def read_records(path: Path) -> Iterator[MetricsRecord]:
    """Yield the records of ``path`` in order, without a torn last line.

    Raises ``DamagedError`` naming file and line if a line before the last is damaged.
    """
    for _, record in lines(path):
        yield record


def _reached(path: Path, step: int) -> int:
    """Return the highest step that was ever logged or repeated after ``step``, else ``step``."""
    last = step
    for record in read_records(path):
        if isinstance(record, StepRecord):
            last = max(last, record.step)
        elif isinstance(record, EventRecord) and record.at > step and record.repeats:
            last = max(last, int(record.facts["step"]))
    return last


def repair(path: Path) -> int:
    """Cut off what a crash left half-written at the end; return the number of bytes dropped.

    A killed writer leaves a line without its newline, a power failure may leave whole blocks
    of zeros: trailing lines are dropped until one can be read.
    """
    if not path.exists():
        return 0
    with _opened(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        kept = _sound(file) if size else 0
    if kept < size:
        os.truncate(path, kept)
    return size - kept


def _sound(file: FileIO) -> int:
    """Return the length of a file of records up to its last readable line."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        kept = content.rfind(b"\n") + 1
        while kept:
            start = content.rfind(b"\n", 0, kept - 1) + 1
            if _readable(content[start:kept]):
                break
            kept = start
    return kept


def rewind(path: Path, step: int) -> int:
    """Drop everything after optimizer step ``step``; return the number of records dropped.

    So are the points of curves whose weights the updates to be repeated will make: those of later
    steps or, where a point names none, of more FLOPs than the last kept step.
    """
    if not path.exists():
        return 0
    steps = (r for r in read_records(path) if isinstance(r, StepRecord))
    reached = max((r.flops for r in steps if r.step <= step), default=0.0)
    dropped = sum(not _is_before(record, step, reached) for record in read_records(path))
    if dropped:
        with atomic_write(path) as file:
            file.writelines(line for line, r in lines(path) if _is_before(r, step, reached))
    return dropped


def _is_before(record: MetricsRecord, step: int, flops: float) -> bool:
    if isinstance(record, StepRecord):
        return record.step <= step
    if isinstance(record, EventRecord):
        return record.at <= step
    if isinstance(record, CurvePoint):
        at = record.extra.get("step")
        return at <= step if isinstance(at, int) else record.flops <= flops
    return True


def lines(path: Path, offset: int = 0, first: int = 1) -> Iterator[tuple[bytes, MetricsRecord]]:
    """Yield the complete lines of ``path``, each with its record; raises as ``read_records``.

    Reading goes on at byte ``offset``, where line ``first`` begins.
    """
    with _opened(path, "rb") as raw, BufferedReader(raw) as file:
        file.seek(offset)
        for number, line in enumerate(file, start=first):
            if not line.endswith(b"\n"):
                return
            try:
                record = decode(line)
            except ValueError as error:
                raise DamagedError(
                    f"{path}:{number}: not a metrics record ({error}); remove that line"
                ) from error
            yield line, record


def _opened(path: Path, mode: str) -> FileIO:
    try:
        return FileIO(path, mode)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be opened ({error.strerror}); move it away or restore it"
        ) from None


def _readable(line: bytes) -> bool:
    try:
        decode(line)
    except ValueError:
        return False
    return True
