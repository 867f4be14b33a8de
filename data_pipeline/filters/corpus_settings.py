"""Settings of a corpus's text: inputs, reading, cleaning, filters.

A section set to ``null`` is left out. Unknown keys are refused.
"""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field

from convbert.data_pipeline.documents import Stage
from convbert.data_pipeline.filters import (
    C4Config,
    C4Filter,
    GopherConfig,
    GopherFilter,
    LanguageConfig,
    LanguageFilter,
    RepetitionConfig,
    RepetitionFilter,
)
from convbert.data_pipeline.filters.base import Filter
from convbert.data_pipeline.filters.cleaning import Cleaner, CleaningConfig
from convbert.data_pipeline.readers import ReaderOptions
from convbert.models.schema import StrictModel, read_yaml, validate


class FiltersConfig(StrictModel):
    """The filters, in the order in which they run: cheap ones first."""

    language: LanguageConfig | None = LanguageConfig()
    gopher: GopherConfig | None = GopherConfig()
    repetition: RepetitionConfig | None = RepetitionConfig()
    c4: C4Config | None = Field(
        None, description="off: it takes headings and lists out; meant for web pages"
    )


class CorpusConfig(StrictModel):
    """Everything that decides which text a corpus holds."""

    inputs: tuple[str, ...] = Field(
        min_length=1, description="files, directories, globs, URLs", examples=[["pages.jsonl"]]
    )
    reader: ReaderOptions = ReaderOptions()
    cleaning: CleaningConfig | None = CleaningConfig()
    filters: FiltersConfig = FiltersConfig()
    samples: int = Field(20, ge=0, le=100_000, description="dropped documents shown of each reason")

    def word_lists(self) -> list[Path]:
        """Return the files that the filters read."""
        words = self.filters.c4.bad_words if self.filters.c4 else None
        return [words] if words else []

    def stages(self) -> list[Stage]:
        """Return cleaning and filters in order; each can be sent to another process."""
        known: list[tuple[type[Filter[Any]], StrictModel | None]] = [
            (Cleaner, self.cleaning),
            (LanguageFilter, self.filters.language),
            (GopherFilter, self.filters.gopher),
            (RepetitionFilter, self.filters.repetition),
            (C4Filter, self.filters.c4),
        ]
        return [stage(config, self.samples) for stage, config in known if config is not None]


Config = TypeVar("Config", bound=BaseModel)


def load_config(path: Path, kind: type[Config]) -> Config:
    """Read settings of a corpus from a YAML file; raises ``UserError``."""
    return validate(kind, read_yaml(path), path, remedy="see docs/corpus-build.md")
