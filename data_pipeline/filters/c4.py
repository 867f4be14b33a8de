"""The rules of C4 (Raffel et al. 2020, section 2.2), with the numbers of its released code.

They take lines out of a document and drop it if little is left. The original counts sentences
with NLTK; here a sentence ends at ``.``, ``!`` or ``?`` before white space or the end of the line,
and at the stops of other scripts, which are good ends of a line too (``segmentation``).
The list of bad words is the user's own.
"""

import re
from functools import cached_property
from pathlib import Path

from pydantic import Field

from convbert.data_pipeline.filters.base import Filter, Verdict
from convbert.data_pipeline.segmentation import ends_foreign_sentence, spaced, split_segments
from convbert.models.errors import UserError
from convbert.models.schema import StrictModel

_CODE = "C4's code"
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s|$)")


class C4Config(StrictModel):
    """Which lines and documents stay."""

    end_marks: tuple[str, ...] = Field(
        (".", "?", "!", '"'),
        description=f'a line must end with one, not with "..." ({_CODE}: . ? ! "); empty: any end',
    )
    min_words_per_line: int = Field(5, ge=0, description=f"shorter lines go ({_CODE}: 5)")
    max_word_length: int = Field(1000, gt=0, description=f"lines with longer go ({_CODE}: 1000)")
    min_sentences: int = Field(3, ge=0, description=f"fewer drop the document ({_CODE}: 3)")
    line_phrases: tuple[str, ...] = Field(
        (
            "javascript",
            "terms of use",
            "privacy policy",
            "cookie policy",
            "uses cookies",
            "use of cookies",
            "use cookies",
        ),
        description=f"lines that hold one go, whatever the case ({_CODE})",
    )
    document_phrases: tuple[str, ...] = Field(
        ("lorem ipsum", "{"),
        description=f"documents that hold one go, whatever the case ({_CODE})",
    )
    citations: bool = Field(True, description=f"take out [1], [edit], [citation needed] ({_CODE})")
    bad_words: Path | None = Field(
        None,
        description=f"file with a word per line; a document with one goes ({_CODE}: LDNOOBW)",
        examples=["bad-words.txt"],
    )


class C4Filter(Filter[C4Config]):
    """Takes lines out and drops what is left of pages without prose."""

    name = "c4"
    settings = C4Config

    def judge_text(self, text: str) -> Verdict:
        """Judge a text; the lines that stay are its new text."""
        config = self.config
        of_lines, of_documents = self._phrases
        kept: list[str] = []
        sentences = 0
        changes: set[str] = set()
        for original in text.split("\n"):
            line = _CITATION.sub("", original).strip() if config.citations else original.strip()
            fault = self._fault(line)
            if fault:
                changes.add(fault)
                continue
            lower = line.lower()
            for phrase in of_documents:
                if phrase in lower:
                    return Verdict("phrase", phrase)
            if self._bad is not None and (bad := self._bad.search(lower)):
                return Verdict("bad word", bad.group())
            if any(phrase in lower for phrase in of_lines):
                changes.add("lines with a phrase")
                continue
            sentences += _sentences(line)
            kept.append(line)
        if sentences < config.min_sentences or not kept:
            return Verdict("sentences", f"{sentences} left")
        return Verdict(text="\n".join(kept), changes=tuple(sorted(changes)))

    def _fault(self, line: str) -> str:
        """Name the rule about its form that a line breaks."""
        config = self.config
        ended = line.endswith(config.end_marks) and not line.endswith("...")
        if config.end_marks and not ended and not ends_foreign_sentence(line):
            return "lines without end mark"
        words = spaced(line).split()
        if len(words) < config.min_words_per_line:
            return "short lines"
        if len(line) > config.max_word_length and max(map(len, words)) > config.max_word_length:
            return "lines with a long word"
        return ""

    @cached_property
    def _phrases(self) -> tuple[list[str], list[str]]:
        """Those of lines and of documents, in small letters as the lines they are looked for in."""
        found = self.config.line_phrases, self.config.document_phrases
        lines, documents = ([phrase.lower() for phrase in phrases] for phrases in found)
        return lines, documents

    @cached_property
    def _bad(self) -> re.Pattern[str] | None:
        if self.config.bad_words is None:
            return None
        try:
            words = self.config.bad_words.read_text(encoding="utf-8-sig").lower().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UserError(
                f"{self.config.bad_words}: cannot be read ({reason}); check c4.bad_words"
            ) from None
        known = "|".join(re.escape(word.strip()) for word in words if word.strip())
        return re.compile(rf"(?<![a-z])(?:{known})(?![a-z])") if known else None


def _sentences(line: str) -> int:
    """Count the sentences that end in a line."""
    found = len(_SENTENCE_END.findall(line))
    return max(found, len(split_segments(line))) if ends_foreign_sentence(line) else found
