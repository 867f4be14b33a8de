"""Filters of documents: language, and the quality rules of Gopher and C4.

Every filter is a stage (``documents.Stage``): it returns what it keeps and a report of what it
dropped and why. Filters hold only their configuration, so they travel to other processes.
"""

from convbert.data_pipeline.filters.c4 import C4Config, C4Filter
from convbert.data_pipeline.filters.gopher import GopherConfig, GopherFilter
from convbert.data_pipeline.filters.language import LanguageConfig, LanguageFilter
from convbert.data_pipeline.filters.repetition import RepetitionConfig, RepetitionFilter

__all__ = [
    "C4Config",
    "C4Filter",
    "GopherConfig",
    "GopherFilter",
    "LanguageConfig",
    "LanguageFilter",
    "RepetitionConfig",
    "RepetitionFilter",
]
