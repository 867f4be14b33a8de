"""The quality rules of Gopher (Rae et al. 2021, "Scaling Language Models", appendix A.1.1).

Words are what white space separates, in scripts without spaces what ICU does (``segmentation``);
punctuation belongs to them, where the original does not say.
"""

import re

from pydantic import Field

from convbert.data_pipeline.filters.base import KEEP, Filter, Verdict
from convbert.data_pipeline.filters.by_language import LanguageDefaults
from convbert.data_pipeline.segmentation import spaced

_SOURCE = "Gopher A.1.1"
_LETTER = re.compile(r"[^\W\d_]")
# Of ASCII, what is neither letter nor white space; and what text takes for white space, bytes not.
_NO_LETTERS = bytes(c for c in range(128) if not (chr(c).isalpha() or chr(c).isspace()))
_SPACES = bytes(32 if c < 128 and chr(c).isspace() else c for c in range(256))


class GopherConfig(LanguageDefaults):
    """Bounds beyond which a document is dropped; those of English from Gopher, appendix A.1.1."""

    min_words: int = Field(50, ge=0, description=f"fewest words ({_SOURCE}: 50)")
    max_words: int = Field(100_000, gt=0, description=f"most words ({_SOURCE}: 100,000)")
    min_mean_word: float = Field(3, ge=0, description=f"mean characters of a word ({_SOURCE}: 3)")
    max_mean_word: float = Field(10, gt=0, description=f"mean characters of a word ({_SOURCE}: 10)")
    max_hashes: float = Field(0.1, ge=0, description=f"# per word ({_SOURCE}: 0.1)")
    max_ellipses: float = Field(0.1, ge=0, description=f"... per word ({_SOURCE}: 0.1)")
    max_bullet_lines: float = Field(
        0.9, ge=0, description=f"share of lines that start with a bullet ({_SOURCE}: 0.9)"
    )
    max_ellipsis_lines: float = Field(
        0.3, ge=0, description=f"share of lines that end with an ellipsis ({_SOURCE}: 0.3)"
    )
    min_alphabetic: float = Field(
        0.8, ge=0, description=f"share of words with a letter ({_SOURCE}: 0.8)"
    )
    stop_words: tuple[str, ...] = Field(
        ("the", "be", "to", "of", "and", "that", "have", "with"),
        description=f"frequent words of the language ({_SOURCE}: these eight)",
    )
    min_stop_words: int = Field(
        2, ge=0, description=f"number of words of stop_words that must occur ({_SOURCE}: 2)"
    )


# The lists count words without it, and in Hindi the commonest one stands at the end of a sentence.
_FOREIGN_PUNCTUATION = "।॥۔؟،؛።፣፤։။၊។。、，！？：；「」『』（）《》・"


class GopherFilter(Filter[GopherConfig]):
    """Drops documents that are no prose."""

    name = "gopher"
    settings = GopherConfig

    def judge_text(self, text: str) -> Verdict:
        """Judge a text by the first rule that it breaks."""
        config = self.config
        words = spaced(text).split()
        total = len(words)
        if not config.min_words <= total <= config.max_words:
            return Verdict("word count", f"{total:,} words")
        mean = len("".join(words)) / max(total, 1)
        if not config.min_mean_word <= mean <= config.max_mean_word:
            return Verdict("word length", f"mean {mean:.1f}")
        if (hashes := text.count("#")) > config.max_hashes * total:
            return Verdict("hash signs", f"{hashes} in {total:,} words")
        if (ellipses := text.count("...") + text.count("…")) > config.max_ellipses * total:
            return Verdict("ellipses", f"{ellipses} in {total:,} words")
        return self._lines(text) or self._vocabulary(text, words) or KEEP

    def _lines(self, text: str) -> Verdict | None:
        lines = [stripped for line in text.split("\n") if (stripped := line.strip())]
        bullets = sum(line.startswith(("•", "‣", "●", "-", "*")) for line in lines)
        if bullets > self.config.max_bullet_lines * len(lines):
            return Verdict("bullet lines", f"{bullets} of {len(lines)} lines")
        dotted = sum(line.endswith(("...", "…")) for line in lines)
        if dotted > self.config.max_ellipsis_lines * len(lines):
            return Verdict("ellipsis lines", f"{dotted} of {len(lines)} lines")
        return None

    def _vocabulary(self, text: str, words: list[str]) -> Verdict | None:
        alphabetic = _words_with_letter(text, words)
        if alphabetic < self.config.min_alphabetic * len(words):
            return Verdict("alphabetic words", f"{alphabetic / len(words):.0%}")
        found = 0
        for stop_word in dict.fromkeys(self.config.stop_words):
            # Frequent words stand near the beginning, so that the search ends there.
            if found >= self.config.min_stop_words:
                return None
            found += stop_word in words
        if found < self.config.min_stop_words and not text.isascii():
            bare = {word.strip(_FOREIGN_PUNCTUATION) for word in words}
            found = len(bare.intersection(self.config.stop_words))
        if found < self.config.min_stop_words:
            return Verdict("stop words", f"{found} of {len(self.config.stop_words)}")
        return None


def _words_with_letter(text: str, words: list[str]) -> int:
    """Count them; in ASCII text by taking everything else out of the words."""
    if text.isascii():
        return len(text.encode().translate(_SPACES, _NO_LETTERS).split())
    others = [word for word in words if not word.isalpha()]
    return len(words) - len(others) + sum(map(bool, map(_LETTER.search, others)))
