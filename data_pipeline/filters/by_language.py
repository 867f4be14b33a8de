"""Bounds and stop words that fit a document's language.

Those of English are the papers'. Those of 83 other languages (``languages.json``) were taken from
the settings of FineWeb2 (Penedo et al. 2025, "FineWeb2: One Pipeline to Scale Them All", Apache
2.0), which computes them from how the measures are distributed in each language's Wikipedia and
web pages; stop words without a letter are left out, since punctuation is no word here.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any, Self

from pydantic import ConfigDict, Field

from convbert.models.schema import StrictModel

ENGLISH = "en"
# A language without an entry: no rule that needs to know it.
_OTHER = {"min_stop_words": 0, "min_mean_word": 0.0, "max_mean_word": 1000.0}


class LanguageDefaults(StrictModel):
    """Settings whose defaults depend on the language of a document."""

    # JSON has no infinity: manifests and reports would hold something else than what was set.
    model_config = ConfigDict(allow_inf_nan=False)

    by_language: bool = Field(
        True,
        description="values left at their default are those of the document's language, where it "
        "is known (docs/corpus.md); false: as they stand, for all",
        exclude_if=lambda value: value is True,  # what older builds recorded stays the same
    )

    def for_language(self, language: str) -> Self:
        """Return the settings for a language (ISO 639; empty: unknown, taken as English)."""
        if not self.by_language or language in ("", ENGLISH):
            return self
        fields = type(self).model_fields
        own = {
            name: value
            for name, value in _values(language).items()
            if name in fields and getattr(self, name) == fields[name].default
        }
        if own.keys() & {"min_stop_words"} and "stop_words" in self._changed():
            del own["min_stop_words"]  # the user's stop words are looked for in every language
        return type(self).model_validate({**self.model_dump(), **own})

    def _changed(self) -> set[str]:
        fields = type(self).model_fields
        return {name for name in fields if getattr(self, name) != fields[name].default}


def _values(language: str) -> dict[str, Any]:
    return _table().get(language, _OTHER)


@cache
def _table() -> dict[str, dict[str, Any]]:
    path = files("convbert.data_pipeline.filters") / "languages.json"
    table: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return table
