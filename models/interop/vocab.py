"""Recognize a WordPiece vocabulary that was damaged by a wrong text encoding.

The ``vocab.txt`` published with ConvBERT is BERT's, read as GBK and saved as UTF-8: entries of
plain ASCII kept their ids, all others became Chinese characters, many of them the same. With it,
quotation marks, dashes and currency signs are all tokenized to [UNK].
"""

import codecs
from dataclasses import dataclass
from pathlib import Path

from convbert.models.errors import AbsentError, DamagedError, UserError

# Punctuation that BERT's vocabularies have and that English text uses on every page.
_TYPOGRAPHY = "“”‘’–—…£€°•×"
# Of the damaged file's non-ASCII entries 99 % decode this way, of real Chinese ones about a fifth.
_MOJIBAKE_SHARE = 0.5
# What stands where a byte was lost when the file was read.
_LOST = "?\ufffd"


@dataclass(frozen=True)
class VocabReport:
    """What is in a vocabulary file.

    ``mojibake`` counts the entries beyond ASCII that are UTF-8 text read as GBK; ``missing`` are
    the common typographic characters without an entry.
    """

    path: Path
    entries: int
    distinct: int
    non_ascii: int
    mojibake: int
    crlf: bool
    missing: str

    @property
    def wrongly_decoded(self) -> bool:
        """Whether the file was saved from a wrong decoding."""
        return self.non_ascii > 0 and self.mojibake > _MOJIBAKE_SHARE * self.non_ascii

    @property
    def sound(self) -> bool:
        """Whether every id has a token of its own and the text is what was meant."""
        return self.distinct == self.entries and not self.wrongly_decoded

    def describe(self) -> str:
        """Return one line on what is in the file and what is wrong with it."""
        facts = [f"{self.entries} entries"]
        if self.distinct < self.entries:
            facts.append(f"only {self.distinct} distinct")
        if self.wrongly_decoded:
            facts.append(
                f"{self.mojibake} of the {self.non_ascii} beyond ASCII are UTF-8 read as GBK"
            )
        if self.crlf:
            facts.append("lines end in CRLF")
        if self.missing and not self.sound:
            facts.append(f"no entry for {' '.join(self.missing)}")
        return f"{self.path}: " + ", ".join(facts)


def read_vocab(path: Path) -> list[str]:
    """Return the tokens of a ``vocab.txt`` in the order of their ids; errors as ``inspect_vocab``.

    Lines end in a line feed alone, or behind a carriage return: other characters that end lines,
    such as U+2028, are tokens of some vocabularies.
    """
    return [line.removesuffix("\r") for line in _lines(path)]


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise AbsentError(f"{path}: no such file: give the model's vocab.txt") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): give a vocab.txt") from error
    except UnicodeDecodeError as error:
        raise DamagedError(
            f"{path}: not UTF-8 at byte {error.start}: convert the file, or get it again"
        ) from error
    return text.removesuffix("\n").split("\n")


def inspect_vocab(path: str | Path) -> VocabReport:
    """Return what is in a ``vocab.txt``, one token a line.

    Raises ``AbsentError`` when there is no file, ``DamagedError`` when it is not UTF-8.
    """
    path = Path(path)
    lines = _lines(path)
    tokens = [line.removesuffix("\r") for line in lines]
    beyond_ascii = [token for token in tokens if not token.isascii()]
    distinct = set(tokens)
    return VocabReport(
        path=path,
        entries=len(tokens),
        distinct=len(distinct),
        non_ascii=len(beyond_ascii),
        mojibake=sum(map(_is_mojibake, beyond_ascii)),
        crlf=any(line.endswith("\r") for line in lines),
        missing="".join(sign for sign in _TYPOGRAPHY if sign not in distinct),
    )


def require_sound_vocab(path: str | Path) -> VocabReport:
    """Return the report on a vocabulary; raises ``DamagedError`` when it is not sound."""
    report = inspect_vocab(path)
    if not report.sound:
        raise DamagedError(
            f"{report.describe()}: damaged vocabulary, use the original one with the same ids "
            "(for the released ConvBERT models that is BERT's uncased vocab.txt)"
        )
    return report


def _is_mojibake(token: str) -> bool:
    """Return whether the token's GBK bytes are UTF-8 text, the last character perhaps cut off."""
    try:
        content = token.removeprefix("##").rstrip(_LOST).encode("gbk")
        codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeError:
        return False
    return not content.isascii()
