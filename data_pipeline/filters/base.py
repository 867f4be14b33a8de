"""What the filters share."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convbert.data_pipeline.documents import Document, StageReport
from convbert.models.schema import StrictModel


class FilterConfig(StrictModel):
    """Base of the filters' sections: frozen, unknown keys refused."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter says of one document: a reason to drop it, or the text to keep."""

    reason: str = ""
    detail: str = ""
    text: str | None = None
    changes: tuple[str, ...] = ()


KEEP = Verdict()


class Filter:
    """A stage that judges documents in groups; subclasses define ``name`` and ``judge``."""

    name: str

    def __init__(self, sample_limit: int = 20) -> None:
        self.sample_limit = sample_limit

    def judge(self, texts: Sequence[str]) -> list[Verdict]:
        """Return a verdict per text; none depends on the other texts."""
        raise NotImplementedError

    def __call__(self, documents: Iterable[Document]) -> tuple[list[Document], StageReport]:
        """Return the documents kept, in order, and the report."""
        report = StageReport(stage=self.name, sample_limit=self.sample_limit)
        started = time.process_time()
        everything = list(documents)
        kept = []
        report.read(everything)
        verdicts = self.judge([document.text for document in everything])
        for document, verdict in zip(everything, verdicts, strict=True):
            for change in verdict.changes:
                report.change(change)
            if verdict.reason:
                report.drop(document, verdict.reason, verdict.detail)
            elif verdict.text is not None:
                kept.append(document.with_text(verdict.text))
            else:
                kept.append(document)
        report.keep(kept)
        report.seconds = time.process_time() - started
        return kept, report
