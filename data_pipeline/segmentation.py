"""Where sentences and words end, in every script: the one place that decides it.

Lines whose sentences end as in English, at a stop before white space, are cut by that rule alone,
as are the words of scripts that put spaces between them. All else is asked of ICU: the sentence
rules of Unicode (UAX 29) for the stops of other scripts, and its dictionaries for the words of
Chinese, Japanese, Thai, Lao, Khmer and Burmese.
"""

import re
from collections.abc import Iterator
from functools import cache
from unicodedata import category

import icu4py
import regex
from icu4py.breakers import SentenceBreaker, WordBreaker

# Names what decides boundaries, for whatever is kept and compared.
SEGMENTATION = f"ICU {icu4py.icu_version}"

# The spaces after a full stop, question or exclamation mark, and after a quotation mark or bracket
# that closes behind it. Beginning with the stop lets the search skip all other characters.
_STOP, _CLOSING = r".!?…。！？", r"\"'”’»)\]"
_SENTENCE_END = re.compile(rf"([{_STOP}][{_CLOSING}]?)\s+")
# Thai, Lao and Tibetan have no stop: white space parts their clauses and sentences, but stands
# also before the signs of repetition and abbreviation and around numbers.
_CLAUSED = "\u0e00-\u0fff"
_CLAUSE_END = re.compile(
    rf"(?<=[{_CLAUSED}])\s+(?=[{_CLAUSED}])(?![\u0e2f\u0e46\u0eaf\u0ec6\u0e50-\u0e59])"
)
_OTHER_STOPS = r"[\p{Sentence_Terminal}\p{Sentence_Break=ATerm}--[.!?]]"
_GREEK_QUESTION = "[\u0370-\u03ff\u1f00-\u1fff] ?;"
_OTHER_END = rf"{_OTHER_STOPS}|\u037e|{_GREEK_QUESTION}|[{_CLAUSED}]\s+[{_CLAUSED}]"
_FOREIGN_END = rf"(?:{_OTHER_STOPS}\p{{Sentence_Break=Close}}*|[{_CLAUSED}])$"

# Letters of scripts without spaces: Thai, Lao, Tibetan, Myanmar, Khmer, Tai scripts, iteration
# marks, kana, Han, more Myanmar, compatibility Han, half-width kana, supplementary Han.
_UNSPACED = (
    "\u0e01-\u0e4e\u0e81-\u0ece\u0edc-\u0edf\u0f00\u0f40-\u0fbc\u1000-\u103f\u1050-\u109d"
    "\u1780-\u17d3\u17dc-\u17dd\u1950-\u19df\u1a20-\u1a7f\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9fe\uaa60-\uaadf\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff"
)
# A run of them, and the punctuation behind it, which belongs to its last word.
_RUN = re.compile(rf"([{_UNSPACED}]+)([^\w\s]*)")

# Languages of scripts without spaces; kana first, since Japanese has Han as well.
_SAMPLED = 500  # characters
_LANGUAGES = [
    (language, re.compile(f"[{letters}]"))
    for language, letters in {
        "ja": "\u3041-\u30ff",
        "zh": "\u4e00-\u9fff",
        "th": "\u0e01-\u0e5b",
        "lo": "\u0e81-\u0edf",
        "my": "\u1000-\u109f",
        "km": "\u1780-\u17ff",
    }.items()
]

# ``regex`` finds a character of one range some twenty times faster than one of several.
_WITH_OTHER_STOPS = [
    regex.compile(r) for r in ("[\u037e-\u03ff]", "[\u0589-\u1fff]", "[\u2e00-\U0003ffff]")
]
_MAYBE_UNSPACED = [regex.compile(r) for r in ("[\u0e00-\u1aff]", "[\u3005-\U0003ffff]")]


def split_segments(text: str) -> list[str]:
    """Split a document at line ends and after sentences: the units that a segment is made of.

    Only white space is lost.
    """
    segments: list[str] = []
    foreign = _may_hold(text, _WITH_OTHER_STOPS)
    for line in map(str.strip, text.splitlines()):
        if foreign and _compiled(_OTHER_END).search(line):
            segments += _sentences(line)
        elif line:
            _cut_plainly(line, segments)
    return segments


def ends_foreign_sentence(line: str) -> bool:
    """Return whether a line ends as a sentence does in scripts other than Latin.

    That is with a stop of their own; in scripts without one every line does.
    """
    return _may_hold(line[-8:], _WITH_OTHER_STOPS) and bool(_compiled(_FOREIGN_END).search(line))


def spaced(text: str) -> str:
    """Return a text with spaces between all words, whatever its script.

    What white space then separates are words; punctuation belongs to the word before it. Text in
    scripts with spaces is returned as it is.
    """
    if not _may_hold(text, _MAYBE_UNSPACED):
        return text
    runs = [match.group(1) for match in _RUN.finditer(text)]
    if not runs:
        return text
    # One search for boundaries in all runs: to set it up takes as long as some fifty characters.
    parts = " ".join(WordBreaker("\n".join(runs), "und")).split(" \n ")
    found = iter(parts)
    return _RUN.sub(lambda match: f" {next(found)}{match.group(2)} ", text)


def language_of_script(text: str) -> str:
    """Guess the language of a text in a script without spaces, from its middle; else ``""``."""
    start = max(0, (len(text) - _SAMPLED) // 2)
    part = text[start : start + _SAMPLED]
    if not _may_hold(part, _MAYBE_UNSPACED):
        return ""
    for language, letters in _LANGUAGES:
        if 4 * len(letters.findall(part)) >= len(part):
            return language
    return ""


@cache
def _compiled(pattern: str) -> "regex.Pattern[str]":
    """Compile what takes longest to compile when a text first needs it; English never does."""
    return regex.compile(pattern, regex.V1)


def _may_hold(text: str, ranges: list["regex.Pattern[str]"]) -> bool:
    return not text.isascii() and any(r.search(text) for r in ranges)


def _cut_plainly(line: str, segments: list[str]) -> None:
    """Append the parts of a line, without white space around it, cut at stops before white space.

    Appending, unlike yielding, costs English text no time.
    """
    start = 0
    for end in _SENTENCE_END.finditer(line):
        segments.append(line[start : end.end(1)])
        start = end.end()
    segments.append(line[start:])


def _sentences(line: str) -> Iterator[str]:
    """Cut a line also at the stops of other scripts."""
    locale = "el" if "\u037e" in line or re.search(_GREEK_QUESTION, line) else "und"
    parts: list[str] = []
    sentences = list(SentenceBreaker(line, locale))
    for number, sentence in enumerate(sentences, 1):
        # Unicode's rules do not tell brackets that open from those that close behind a stop.
        end = len(sentence) if number == len(sentences) else _opening(sentence)
        if closed := sentence[:end].strip():
            _cut_plainly(closed, parts)
        if end < len(sentence):
            sentences[number] = sentence[end:] + sentences[number]
    for part in parts:
        yield from _CLAUSE_END.split(part)


def _opening(sentence: str) -> int:
    """Return where the brackets and quotation marks begin that a sentence ends with."""
    end = len(sentence)
    while end and category(sentence[end - 1]) in ("Ps", "Pi"):
        end -= 1
    return end
