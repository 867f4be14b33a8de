"""The base of cleaning and of all filters."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from convbert.data_pipeline.documents import Document, StageReport
from convbert.data_pipeline.filters.by_language import LanguageDefaults
from convbert.data_pipeline.segmentation import language_of_script
from convbert.models.schema import StrictModel

Config = TypeVar("Config", bound=StrictModel)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one document: a reason to drop it, or its new text if that changed.

    ``language`` is that of the document, where the filter tells it.
    """

    reason: str = ""
    detail: str = ""
    text: str | None = None
    changes: tuple[str, ...] = ()
    language: str = ""


KEEP = Verdict()


class Filter(Generic[Config]):
    """A stage that judges every document by itself.

    Subclasses name the stage and the class of its settings, and define ``judge_text``, or ``judge``
    if many texts together are faster.
    """

    name: str
    settings: type[Config]

    def __init__(self, config: Config | None = None, sample_limit: int = 20) -> None:
        self.config = config or self.settings()
        self.sample_limit = sample_limit

    def judge(self, texts: Sequence[str]) -> list[Verdict]:
        """Return a verdict per text; none depends on the other texts."""
        return [self.judge_text(text) for text in texts]

    def judge_text(self, text: str) -> Verdict:
        """Return the verdict on a text."""
        raise NotImplementedError

    def __call__(self, documents: Iterable[Document]) -> tuple[list[Document], StageReport]:
        """Return the documents kept, in order, and the report."""
        report = StageReport(stage=self.name, sample_limit=self.sample_limit)
        started = time.process_time()
        everything = list(documents)
        kept = []
        report.read(everything)
        verdicts = self._verdicts(everything)
        for document, verdict in zip(everything, verdicts, strict=True):
            for change in verdict.changes:
                report.change(change)
            if verdict.reason:
                report.drop(document, verdict.reason, verdict.detail)
            elif verdict.text is not None:
                kept.append(document.with_text(verdict.text))
            elif verdict.language:
                kept.append(document.with_language(verdict.language))
            else:
                kept.append(document)
        report.keep(kept)
        report.seconds = time.process_time() - started
        return kept, report

    def _verdicts(self, documents: Sequence[Document]) -> list[Verdict]:
        """Judge documents, each by the settings for its language."""
        config = self.config
        if not isinstance(config, LanguageDefaults) or not config.by_language:
            return self.judge([document.text for document in documents])
        groups: dict[str, list[int]] = {}
        for place, document in enumerate(documents):
            language = document.language or language_of_script(document.text)
            groups.setdefault(language, []).append(place)
        verdicts: dict[int, Verdict] = {}
        for language, places in groups.items():
            judge = type(self)(config.for_language(language), self.sample_limit).judge
            verdicts |= zip(places, judge([documents[place].text for place in places]), strict=True)
        return [verdicts[place] for place in range(len(documents))]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was computed from the settings, which other processes compute again."""
        return {"config": self.config, "sample_limit": self.sample_limit}
