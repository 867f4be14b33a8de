"""Build a corpus: raw files to deduplicated, tokenized, packed and verified shards.

Every step is a set of tasks whose results lie below ``work`` under names made of what decides
them. Started again after any interruption, a build finds them and goes on; the shards have the
bytes of an undisturbed run, whatever the number of workers.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import numpy as np

from convbert.data_pipeline.atomic import (
    atomic_directory,
    atomic_write,
    clear_left,
    fsync_directory,
    set_aside,
)
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.clean import (
    CONTAMINATED,
    Cleaned,
    build_evaluation_index,
    clean_tasks,
    run_clean,
)
from convbert.data_pipeline.corpus_build.engine import Engine, open_engine
from convbert.data_pipeline.corpus_build.finished import (
    find_finished,
    require_room,
    shards_folder,
)
from convbert.data_pipeline.corpus_build.match import find_duplicates
from convbert.data_pipeline.corpus_build.origins import (
    LeftOut,
    Origin,
    find_inputs,
    record_origins,
    require_apart,
    require_unchanged,
)
from convbert.data_pipeline.corpus_build.pack import Packed, PackTask, run_pack
from convbert.data_pipeline.corpus_build.pieces import TextPiece
from convbert.data_pipeline.corpus_build.progress import BuildProgress
from convbert.data_pipeline.corpus_build.report import CorpusReport, write_report
from convbert.data_pipeline.corpus_build.sharding import MadeShards, make_shards
from convbert.data_pipeline.corpus_build.tasks import key_of
from convbert.data_pipeline.corpus_build.tokenizer_task import TrainTask, run_training
from convbert.data_pipeline.dedup.clusters import dropped_of_piece
from convbert.data_pipeline.documents import shown
from convbert.data_pipeline.locks import acquire
from convbert.data_pipeline.readers import input_files
from convbert.data_pipeline.readers.records import said
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError

log = logging.getLogger(__name__)

_REPLACING = "replacing"  # lies in ``work`` while a finished corpus gives way to another


def build_corpus(
    config: BuildConfig,
    out: Path,
    progress: BuildProgress,
    *,
    workers: int | None = None,
    scheduler_file: Path | None = None,
    keep_work: bool = False,
) -> CorpusReport:
    """Build everything into ``out`` and return the report, or that of a finished build.

    If its inputs, tokenizer or evaluation files have changed, it is built again and replaced when
    all of the new one is there.

    ``out`` then holds ``shards-L`` for every length, ``tokenizer`` if one was trained, and the
    report. Raises ``UserError`` for unusable settings or input, if ``out`` holds another build's
    result, and if another build is at work there. What was finished before an error is kept.
    """
    out = out.absolute()
    if shown(str(out)) != str(out):
        raise UserError(f"{shown(str(out))}: is no UTF-8; choose a directory with another name")
    require_apart(config, out)
    finished = find_finished(config, out)
    if finished is not None:
        if not finished.stale:
            clear_left(out / "work")
            return finished.report
        log.warning(
            f"{out}: {finished.stale}; built again, the finished corpus is replaced at the end"
        )
    work = out / "work"
    require_room(config, out, goes_on=finished is not None or work.is_dir())
    with _locked(work):
        with open_engine(workers, scheduler_file, work) as engine:
            replaces = finished is not None or (work / _REPLACING).exists()
            report = _Build(config, out, work, engine, progress, replaces).run()
        (work / _REPLACING).unlink(missing_ok=True)
        left = work if keep_work else set_aside(work)
    if not keep_work:
        shutil.rmtree(left, ignore_errors=True)
    return report


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Keep a second build out of the directory while this one runs."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = acquire(work / ".lock")
    except OSError as error:
        raise UserError(f"{work}: cannot be made ({error.strerror}); check the path") from None
    if lock is None:
        raise UserError(f"{work}: another build is at work there; wait or end it")
    try:
        yield
    finally:
        lock.release()


class _Build:
    """The steps, in order."""

    def __init__(
        self,
        config: BuildConfig,
        out: Path,
        work: Path,
        engine: Engine,
        progress: BuildProgress,
        replaces: bool,
    ) -> None:
        self._config = config
        self._out = out
        self._work = work
        self._engine = engine
        self._progress = progress
        self._replaces = replaces  # a finished corpus of this directory
        self._origins: list[Origin] = []
        self._left_out: list[LeftOut] = []

    def run(self) -> CorpusReport:
        self._clear_left()
        found = find_inputs(self._config)
        self._left_out = found.left_out
        self._origins = record_origins(found.files, self._engine, self._work, self._progress)
        cleaned = self._clean()
        require_unchanged(found.files, self._origins)  # what was cut is not of one file
        pieces = [piece for result in cleaned for piece in result.pieces]
        if not pieces:
            raise self._nothing_left(self._report(cleaned))
        dropped = self._duplicates(pieces)
        tokenizer = self._tokenizer(pieces, dropped)
        packed = self._pack(pieces, dropped, tokenizer)
        if not sum(result.report.tokens for result in packed):
            self._report(cleaned, packed, pieces, dropped=dropped)
            raise UserError(
                "the input holds no tokens, only invisible characters; check it, and see "
                f"{self._report_folder(complete=False) / 'report.html'}"
            )
        lengths = self._config.shards.seq_len
        made = [self._shards(packed, length, tokenizer) for length in lengths]
        self._place(made, tokenizer)
        report = self._report(cleaned, packed, pieces, made, dropped)
        read = report.stages[0]
        for line in said(read):
            log.warning(line)
        for lack, count in read.changed.items():
            log.warning(f"{count:,} of {read.documents_out:,} document(s) have {lack}")
        return report

    def _report_folder(self, *, complete: bool) -> Path:
        """Return where the report goes: one of a failure must not hide a finished corpus."""
        return self._work if self._replaces and not complete else self._out

    def _report(
        self,
        cleaned: Sequence[Cleaned],
        packed: Sequence[Packed] = (),
        pieces: Sequence[TextPiece] = (),
        made: Sequence[MadeShards] = (),
        dropped: Path | None = None,
    ) -> CorpusReport:
        out = self._report_folder(complete=bool(made))
        self._list_contaminated(cleaned, out)
        manifests = [shards.manifest for shards in made]
        timings = self._progress.timings
        return write_report(
            out,
            self._config,
            self._origins,
            self._left_out,
            cleaned,
            packed,
            pieces,
            manifests,
            timings,
            dropped,
        )

    def _nothing_left(self, report: CorpusReport) -> UserError:
        """Name what dropped most of an input of which nothing is left."""
        reasons = {f"{s.stage}: {r}": n for s in report.stages for r, n in s.dropped.items()}
        most = max(reasons, key=lambda reason: reasons[reason], default="")
        read = report.stages[0].documents_in
        why = f" ({most}, {reasons[most]:,} of {read:,})" if most else ""
        texts = [o for o in self._origins if {".txt", ".md"} & set(Path(o.name.lower()).suffixes)]
        whole = self._config.reader.unit == "file" and 0 < read <= len(texts)
        lines = "set `reader: {unit: line}` if each line is a document, " if whole else ""
        return UserError(
            f"no document is left of the input{why}; {lines}look at the filters and the input, and "
            f"at {self._report_folder(complete=False) / 'report.html'}"
        )

    def _clear_left(self) -> None:
        """Remove files that a killed build began; the lock says that no other is at work."""
        for name in ("report.html", "report.json", CONTAMINATED):
            for path in self._out.glob(f".{name}.*.tmp"):
                path.unlink(missing_ok=True)
        folders = [shards_folder(self._out, length) for length in self._config.shards.seq_len]
        for folder in (*folders, self._out / "tokenizer", self._work):
            if (real := folder.resolve()).parent.is_dir():
                clear_left(real)

    def _clean(self) -> list[Cleaned]:
        evaluation = None
        if self._config.decontamination.files:
            files = input_files(self._config.decontamination.files)
            evaluation = build_evaluation_index(files, self._config, self._work)
        tasks = clean_tasks(self._config, evaluation, self._work)
        with self._progress.step("clean", sum(task.size for task in tasks)) as done:
            return self._engine.map(run_clean, tasks, lambda result: done(result.size))

    def _duplicates(self, pieces: Sequence[TextPiece]) -> Path:
        size, entries = sum(p.bytes for p in pieces), sum(p.entries for p in pieces)
        with self._progress.step("deduplicate", size) as done:
            return find_duplicates(
                self._engine, pieces, self._work, lambda n: done(n * size // max(1, entries))
            )

    def _tokenizer(self, pieces: Sequence[TextPiece], dropped: Path) -> Tokenizer:
        settings = self._config.tokenizer
        if settings.path is not None:
            return Tokenizer.load(settings.path.absolute())
        key = key_of(dropped=str(dropped.relative_to(self._work)), settings=settings.model_dump())
        folder = self._work / "tokenizer" / key
        folder.parent.mkdir(exist_ok=True)
        task = TrainTask(tuple(pieces), dropped, settings, folder)
        size = min(settings.sample_megabytes << 20, sum(piece.bytes for piece in pieces))
        with self._progress.step("tokenizer", size):
            self._engine.map(run_training, [task], lambda _: None)
        return Tokenizer.load(folder)

    def _pack(
        self, pieces: Sequence[TextPiece], dropped: Path, tokenizer: Tokenizer
    ) -> list[Packed]:
        kept = [
            piece.documents - len(dropped_of_piece(dropped, number))
            for number, piece in enumerate(pieces)
        ]
        key = key_of(
            dropped=str(dropped.relative_to(self._work)),
            tokenizer=tokenizer.digest,
            shards=self._config.shards.model_dump(exclude={"megabytes"}),
            samples=self._config.samples,
        )
        tasks = [
            PackTask(
                piece=piece,
                number=number,
                dropped=dropped,
                first=first,
                tokenizer=tokenizer.folder,
                digest=tokenizer.digest,
                config=self._config.shards,
                samples=self._config.samples,
                folder=self._work / "rows" / key / f"{number:06d}",
            )
            for number, (piece, first) in enumerate(
                zip(pieces, accumulate(kept, initial=0), strict=False)
            )
        ]
        with self._progress.step("pack", sum(piece.bytes for piece in pieces)) as done:
            return self._engine.map(run_pack, tasks, lambda result: done(result.size))

    def _shards(self, packed: Sequence[Packed], length: int, tokenizer: Tokenizer) -> MadeShards:
        rows = sum(result.report.rows[length] for result in packed)
        size = rows * length * np.dtype(np.uint16).itemsize
        work = packed[0].folder.parent / f"shards-{length}-{self._config.shards.megabytes}"
        with self._progress.step(f"shards-{length}", size) as done:
            return make_shards(self._engine, packed, length, tokenizer, self._config, work, done)

    def _place(self, made: Sequence[MadeShards], tokenizer: Tokenizer) -> None:
        """Put shards and a trained tokenizer in their places."""
        if self._replaces:
            # From here to the new report the directory holds parts of both.
            (self._work / _REPLACING).touch()
            fsync_directory(self._work)
            (self._out / "report.json").unlink(missing_ok=True)
        if self._config.tokenizer.path is None:
            self._place_tokenizer(tokenizer)
        for shards in made:
            out = shards_folder(self._out, shards.manifest.seq_len)
            shards.place(out, replace=self._replaces)

    def _place_tokenizer(self, tokenizer: Tokenizer) -> None:
        out = self._out / "tokenizer"
        if out.is_dir() and any(out.iterdir()):
            if Tokenizer.load(out).digest == tokenizer.digest:
                return
            if not self._replaces:
                raise UserError(
                    f"{out}: holds another tokenizer; remove it or choose another directory"
                )
        with atomic_directory(out, replace=self._replaces) as copy:
            shutil.copytree(tokenizer.folder, copy, dirs_exist_ok=True)

    def _list_contaminated(self, cleaned: Sequence[Cleaned], out: Path) -> None:
        """Gather the list of all documents that held an evaluation's words."""
        if self._config.decontamination.files:
            with atomic_write(out / CONTAMINATED) as file:
                for result in cleaned:
                    file.write((result.folder / CONTAMINATED).read_bytes())
