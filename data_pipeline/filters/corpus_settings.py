"""The file that says how a corpus is built: inputs, reading, cleaning, filters.

A section set to ``null`` is left out. Unknown keys are refused.
"""

from pathlib import Path
from typing import TypeVar

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

    inputs: tuple[str, ...] = Field(min_length=1, description="files, directories, globs, URLs")
    reader: ReaderOptions = ReaderOptions()
    cleaning: CleaningConfig | None = CleaningConfig()
    filters: FiltersConfig = FiltersConfig()
    samples: int = Field(20, ge=0, description="dropped documents shown of each reason")

    def stages(self) -> list[Stage]:
        """Return cleaning and filters in order; each can be sent to another process."""
        filters = self.filters
        chosen: list[Stage] = []
        if self.cleaning is not None:
            chosen.append(Cleaner(self.cleaning, self.samples))
        if filters.language is not None:
            chosen.append(LanguageFilter(filters.language, self.samples))
        if filters.gopher is not None:
            chosen.append(GopherFilter(filters.gopher, self.samples))
        if filters.repetition is not None:
            chosen.append(RepetitionFilter(filters.repetition, self.samples))
        if filters.c4 is not None:
            chosen.append(C4Filter(filters.c4, self.samples))
        return chosen


Config = TypeVar("Config", bound=BaseModel)


def load_config(path: Path, kind: type[Config]) -> Config:
    """Read a YAML file of any of the corpus's settings; the errors are the same."""
    return validate(kind, read_yaml(path), path, remedy="see docs/corpus-build.md")
