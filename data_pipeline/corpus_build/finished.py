"""What a directory holds already: nothing finished, what is wanted, or what is out of date."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convbert.data_pipeline.atomic import require_vacant
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.origins import differences, find_inputs
from convbert.data_pipeline.corpus_build.report import CorpusReport
from convbert.data_pipeline.segmentation import SEGMENTATION
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.data_pipeline.tokenizer.encoders import MODEL
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import AbsentError, UserError
from convbert.models.schema import read_record

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished:
    """The report of a finished build, and why it is not what a build would make now, if so."""

    report: CorpusReport
    stale: str


def shards_folder(out: Path, seq_len: int) -> Path:
    """Return where the shards of one length lie."""
    return out / f"shards-{seq_len}"


def require_room(config: BuildConfig, out: Path, *, goes_on: bool) -> None:
    """Raise ``UserError`` unless results can be put in their places and a given tokenizer is one.

    Only one that ``goes_on``, after an interruption or with a corpus to replace, may find results
    there: its own.
    """
    places = {shards_folder(out, length): "manifest.json" for length in config.shards.seq_len}
    if config.tokenizer.path is None:
        places[out / "tokenizer"] = MODEL
    for place, file in places.items():
        if not (goes_on and (place / file).is_file()):
            require_vacant(place)
    if config.tokenizer.path is not None:
        Tokenizer.load(config.tokenizer.path.absolute())


def find_finished(config: BuildConfig, out: Path) -> Finished | None:
    """Return the finished build in a directory and compare it with its files of today.

    Raises ``UserError`` if it was built with other settings, if its shards were exchanged, and if
    an input that the settings name is gone.
    """
    path = out / "report.json"
    if not os.path.lexists(path):
        return None
    remedy = "move it away or choose another directory"
    report = read_record(CorpusReport, path, what="the report of a corpus", remedy=remedy)
    if not report.shards:
        return None  # of a build that kept nothing
    if report.config != config:
        raise UserError(
            f"{out}: holds a corpus built with other settings; choose another directory"
        )
    reasons = [*_changed_results(config, report, out), *_changed_files(config, report, out)]
    if not reasons and report.segmentation not in ("", SEGMENTATION):
        log.warning(
            f"{out}: built with {report.segmentation}, which is {SEGMENTATION} now and may cut "
            "sentences and words elsewhere; for such a corpus choose another directory"
        )
    return Finished(report, ", ".join(reasons))


def _changed_results(config: BuildConfig, report: CorpusReport, out: Path) -> Iterator[str]:
    """Yield what is missing of the results, and whether the tokenizer is another."""
    tokenizers = set()
    for shards in report.shards:
        folder = shards_folder(out, shards.seq_len)
        if not (folder / "manifest.json").is_file():
            yield f"{shards.folder} is missing"
            continue
        manifest = Manifest.load(folder)
        if manifest.digest != shards.digest:
            raise UserError(
                f"{folder}: holds other shards than {out / 'report.json'} says; remove it or "
                "choose another directory"
            )
        tokenizers.add(manifest.tokenizer_digest)
    trained = config.tokenizer.path is None
    tokenizer = out / "tokenizer" if trained else config.tokenizer.path
    assert tokenizer is not None
    if trained and not tokenizer.exists():
        yield "tokenizer is missing"
    elif tokenizers - {Tokenizer.load(tokenizer.absolute()).digest}:
        if trained:
            raise UserError(
                f"{tokenizer}: is not the tokenizer of the shards beside it; remove it or choose "
                "another directory"
            )
        yield f"tokenizer changed ({tokenizer})"


def _changed_files(config: BuildConfig, report: CorpusReport, out: Path) -> list[str]:
    """Return how inputs and evaluation files differ from those that were read."""
    if report.origins is None:
        log.warning(
            f"{out}: built by an earlier version, which did not record its inputs: whether they "
            "have changed since is unknown; to read them again choose another directory"
        )
        return []
    try:
        return differences(report.origins, find_inputs(config).files)
    except AbsentError as error:
        raise AbsentError(
            f"{error}; {out} still holds what was built with it, take it out of the settings and "
            "choose another directory to build without it"
        ) from None
