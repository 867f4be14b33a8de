"""The files that a corpus was made from, and whether they are what they were."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.engine import Engine
from convbert.data_pipeline.corpus_build.progress import BuildProgress
from convbert.data_pipeline.corpus_build.tasks import key_of, once
from convbert.data_pipeline.digests import file_sha256
from convbert.data_pipeline.documents import shown
from convbert.data_pipeline.readers import Found, InputFile, find_files, would_find
from convbert.models.errors import UserError

_GROUP_BYTES = 64 << 20
_NAMED = 3


class Origin(BaseModel):
    """A file that was read, text or a list of words, as it was before."""

    model_config = ConfigDict(extra="forbid")

    source: int | None = Field(description="number of its source; None: an evaluation file")
    name: str
    size: int
    version: str = Field(description="time of change in ns, or the mark of its store")
    sha256: str | None = Field(None, description="None for what is no local file")


class LeftOut(BaseModel):
    """Files below the inputs that were not read, for one reason."""

    model_config = ConfigDict(extra="forbid")

    source: int | None = Field(description="number of the source; None: evaluation files")
    reason: str
    files: int
    examples: list[str] = Field(description="names of the first")


@dataclass(frozen=True)
class Inputs:
    """Every file that a build reads, with its state, and what it leaves out of its inputs."""

    files: list[tuple[InputFile, Origin]]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class DigestTask:
    """Local files to read, and where their digests go."""

    files: tuple[str, ...]
    size: int
    folder: Path


def find_inputs(config: BuildConfig) -> Inputs:
    """Return every file that a build would read, with its state but no digest.

    Raises ``AbsentError`` for an entry without a file.
    """
    sources: list[tuple[int | None, Found]] = [
        (number, find_files(source.inputs, source.reader.format))
        for number, source in enumerate(config.all_sources())
    ]
    if config.decontamination.files:
        sources.append((None, find_files(config.decontamination.files)))
    files = [(number, file) for number, found in sources for file in found.files]
    for number, source in enumerate(config.all_sources()):
        files += [(number, InputFile(str(path))) for path in source.word_lists()]
    return Inputs(
        [(file, _state(number, file)) for number, file in files],
        [
            LeftOut(source=number, reason=reason, files=count, examples=found.examples[reason])
            for number, found in sources
            for reason, count in found.left_out.most_common()
        ],
    )


def require_apart(config: BuildConfig, out: Path) -> None:
    """Refuse inputs among which a build would find what it writes itself."""
    inputs = [entry for source in config.all_sources() for entry in source.inputs]
    evaluation = config.decontamination.files
    written = ["report.json", "work/digests/key/digests.json"]
    for entry in (*inputs, *evaluation):
        for name in (*written, "contaminated.jsonl") if evaluation else written:
            if would_find(entry, out / name):
                raise UserError(
                    f"{shown(str(out))}: lies where the input {shown(entry)} would find what the "
                    "build writes; choose another directory"
                )


def _state(source: int | None, file: InputFile) -> Origin:
    try:
        return Origin(
            source=source, name=shown(file.name), size=file.size(), version=file.version()
        )
    except OSError as error:
        raise UserError(f"{file.name}: cannot be read ({error.strerror}); check it") from None


def record_origins(
    found: Sequence[tuple[InputFile, Origin]], engine: Engine, work: Path, progress: BuildProgress
) -> list[Origin]:
    """Return every file that the build reads, local ones with their digest."""
    # A pipe can be read once only, by the build itself.
    local = [(file, origin) for file, origin in found if os.path.isfile(file.name)]
    tasks = list(_digest_tasks(local, work))
    with progress.step("digest", sum(task.size for task in tasks)) as done:
        results = engine.map(run_digests, tasks, lambda result: done(result[1]))
    digests = {
        name: digest
        for task, (values, _) in zip(tasks, results, strict=True)
        for name, digest in zip(task.files, values, strict=True)
    }
    return [origin.model_copy(update={"sha256": digests.get(file.name)}) for file, origin in found]


def _digest_tasks(files: Sequence[tuple[InputFile, Origin]], work: Path) -> Iterator[DigestTask]:
    group: list[tuple[str, Origin]] = []
    size = 0
    for number, (file, origin) in enumerate(files, 1):
        group.append((file.name, origin))
        size += origin.size
        if size >= _GROUP_BYTES or number == len(files):
            states = [(origin.name, origin.size, origin.version) for _, origin in group]
            names = tuple(name for name, _ in group)
            yield DigestTask(names, size, work / "digests" / key_of(files=states))
            group, size = [], 0


def run_digests(task: DigestTask) -> tuple[list[str], int]:
    """Do the task unless it is done; return the digests of its files and their size."""

    def make(folder: Path) -> None:
        digests = [_digest(name) for name in task.files]
        (folder / "digests.json").write_bytes(json.dumps(digests).encode())

    once(task.folder, make)
    return json.loads((task.folder / "digests.json").read_bytes()), task.size


def _digest(name: str) -> str:
    try:
        return file_sha256(Path(name))
    except OSError as error:
        raise UserError(f"{shown(name)}: cannot be read ({error.strerror}); check it") from None


def require_unchanged(found: Sequence[tuple[InputFile, Origin]], origins: Sequence[Origin]) -> None:
    """Raise ``UserError`` for local files with other bytes than before they were read."""
    changed = [
        before.name
        for (file, _), before in zip(found, origins, strict=True)
        if os.path.isfile(file.name) and _differs(before, file, _state(before.source, file))
    ]
    if changed:
        raise UserError(
            f"{_phrase('input', 'changed', changed)} while the build read; start again when "
            "nothing writes there: finished work is kept"
        )


def differences(before: Sequence[Origin], now: Sequence[tuple[InputFile, Origin]]) -> list[str]:
    """Say which files came, went or have other bytes, a phrase for each kind of change.

    A file of the same size whose time differs is read: if its digest is the recorded one, it is
    the same.
    """
    old = {(origin.source, origin.name): origin for origin in before}
    new = {(origin.source, origin.name): (file, origin) for file, origin in now}
    changes = {
        "added": [key for key in new if key not in old],
        "removed": [key for key in old if key not in new and old[key].size],
        "changed": [key for key in new if key in old and _differs(old[key], *new[key])],
    }
    return [
        _phrase(kind, change, [name for source, name in keys if (source is None) == evaluates])
        for kind, evaluates in (("input", False), ("evaluation file", True))
        for change, keys in changes.items()
        if any((source is None) == evaluates for source, _ in keys)
    ]


def _differs(old: Origin, file: InputFile, new: Origin) -> bool:
    if old.size != new.size or old.version == new.version:
        return old.size != new.size
    return old.sha256 is None or not os.path.isfile(file.name) or _digest(file.name) != old.sha256


def _phrase(kind: str, change: str, names: Sequence[str]) -> str:
    plural = "s" if len(names) > 1 else ""
    more = ", ..." if len(names) > _NAMED else ""
    return f"{len(names):,} {kind}{plural} {change} ({', '.join(names[:_NAMED])}{more})"
