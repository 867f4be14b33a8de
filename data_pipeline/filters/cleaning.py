"""Repair and normalize text: wrong decoding, entities, control characters, NFC, white space.

Most text needs none of it, so each repair is behind a search that is much cheaper than the repair.
"""

import re
import unicodedata
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.filters.base import Filter, Verdict
from convbert.models.schema import StrictModel

_LINE_ENDS = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Controls but tab and line feed; soft hyphen, zero-width space, direction marks, byte order mark;
# half surrogate pairs and code points that will never be characters. Zero-width joiners stay:
# Persian, the scripts of India and emoji need them.
_INVISIBLE = re.compile(
    r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064"
    r"\u2066-\u2069\ufeff\ufff9-\ufffb\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]"
)
# UTF-8 read as one byte per character gives two neighbours of these, or one before a space that
# was a no-break space.
_MISREAD = re.compile(
    r"[\x80-\u04ff\u2010-\u25ff\ufb01\ufb02\ufffd]{2}|[\xc2\xc3\xc5\xe0] ", re.UNICODE
)
_ENTITY = re.compile(r"&#?\w{1,24};")
_SPACES = re.compile(r"[^\S\n]+")
_OTHER_SPACE = re.compile(r"[^\S\n ]")
_UNTIDY = ("  ", " \n", "\n ", "\n\n\n", "\t")
_ASCII_CONTROLS = bytes({*range(32), 127} - set(b"\t\n"))


class CleaningConfig(StrictModel):
    """What is repaired in a text."""

    encoding: bool = Field(True, description="repair text once decoded wrongly (ftfy)")
    entities: bool = Field(True, description="turn &amp; and the like into characters (ftfy)")
    form: Literal["NFC", "NFKC", "none"] = Field("NFC", description="Unicode normal form")
    invisible: bool = Field(True, description="drop controls and other invisible characters")
    spaces: bool = Field(
        True, description="one space for a run, none at line ends, one blank line for several"
    )


class Cleaner(Filter[CleaningConfig]):
    """The stage that cleans; drops documents that are empty afterwards."""

    name = "clean"
    settings = CleaningConfig

    def judge_text(self, text: str) -> Verdict:
        """Clean a text; the report counts the documents that each repair changed."""
        text, repairs = self.clean(text)
        reason = "" if text else "empty"
        return Verdict(reason, text=text if repairs else None, changes=tuple(repairs))

    def clean(self, text: str) -> tuple[str, list[str]]:
        """Return clean text and the names of the repairs that changed it."""
        repairs = []
        for name, step in self._steps:
            changed = step(text)
            if changed != text:
                repairs.append(name)
                text = changed
        return text, repairs

    @cached_property
    def _steps(self) -> list[tuple[str, Any]]:
        """The steps in order: later ones tidy what earlier ones bring to light."""
        config = self.config
        known = [
            (config.encoding, "encoding", _Decoding().repair if config.encoding else None),
            (config.entities, "entities", _unescape),
            (True, "line ends", _line_ends),
            (config.invisible, "invisible", _visible),
            (config.form != "none", config.form, self._normalize),
            (config.spaces, "spaces", _tidy),
        ]
        return [(name, step) for wanted, name, step in known if wanted]

    def _normalize(self, text: str) -> str:
        form: Any = self.config.form
        ready = text.isascii() or unicodedata.is_normalized(form, text)
        return text if ready else unicodedata.normalize(form, text)


class _Decoding:
    """Lines that were decoded wrongly, by ftfy; a line is repaired whole or not at all."""

    def __init__(self) -> None:
        ftfy = load_extra("ftfy", "corpus", "repairing text")
        self.fix = ftfy.fix_encoding

    def repair(self, text: str) -> str:
        if text.isascii() or not _MISREAD.search(text):
            return text
        lines = text.split("\n")
        return "\n".join(self.fix(line) if _MISREAD.search(line) else line for line in lines)


def _unescape(text: str) -> str:
    """Unescape entities, but not in text with ``<``, which is markup and shows them on purpose."""
    if "&" not in text or "<" in text or not _ENTITY.search(text):
        return text
    fixed: str = load_extra("ftfy.fixes", "corpus", "repairing text").unescape_html(text)
    return fixed


def _is_plain(text: str) -> bool:
    """Return whether a text is ASCII without controls, much faster than by a search."""
    if not text.isascii():
        return False
    content = text.encode()
    return len(content.translate(None, _ASCII_CONTROLS)) == len(content)


def _line_ends(text: str) -> str:
    return text if _is_plain(text) else _LINE_ENDS.sub("\n", text)


def _visible(text: str) -> str:
    return text if _is_plain(text) else _INVISIBLE.sub("", text)


def _tidy(text: str) -> str:
    untidy = any(part in text for part in _UNTIDY)
    if untidy or (not _is_plain(text) and _OTHER_SPACE.search(text)):
        text = _SPACES.sub(" ", text).replace(" \n", "\n").replace("\n ", "\n")
        text = re.sub(r"\n{3,}", "\n\n", text)
    return text.strip()
