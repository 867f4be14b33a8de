"""UA-GEC: Ukrainian sentences with their errors, and corrected (Syvokon and Nahorna 2021).

Of its two layers that of grammar, spelling and punctuation is used, not that of style, and of
several annotators the first. Places in a text are counted in visible characters, because source,
tokens and annotation differ in their spaces.
"""

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from convbert.data_pipeline.corpora import Archive, Files

_ROOT = "ua_gec/data/gec-only"
# {error=>correction:::error_type=G/Case}, with \n for a line end in it
_EDIT = re.compile(r"\{([^{]*)=>(.*?)(?::::[^:]*?error_type=([^:}]*)[^}]*)?\}")
WRONG, RIGHT = "S-error", "O"  # a span for each wrong word: span_f1 counts words

FILES = (
    "ua_gec_acceptability.csv",
    "ua_gec_acceptability_test.csv",
    "ua_gec_errors.jsonl",
    "ua_gec_errors_test.jsonl",
    "ua_gec_pairs.jsonl",
)


@dataclass(frozen=True)
class Edit:
    """An error from ``first`` to before ``last``; nothing there where something is missing.

    ``behind`` tells that what is missing belongs to the characters before, not to those after.
    """

    first: int
    last: int
    kind: str
    behind: bool


@dataclass(frozen=True)
class Sentence:
    """A sentence with its errors, corrected, its words with tags, and the kind of its errors."""

    source: str
    target: str
    words: list[str]
    tags: list[str]
    kind: str
    author: str


def unpack(archive: Archive) -> Files:
    """Make the tables of both tasks, train and test, and one file of all pairs."""
    parts = {part: list(_sentences(archive, part)) for part in ("train", "test")}
    for part, file in zip(parts, FILES[:2], strict=True):
        yield file, _acceptability(parts[part])
    for part, file in zip(parts, FILES[2:4], strict=True):
        rows = ({"words": s.words, "tags": s.tags, "author": s.author} for s in parts[part])
        yield file, _json_lines(rows)
    pairs = [s for part in parts.values() for s in part if s.source != s.target]
    rows = ({"good": s.target, "bad": s.source, "kind": s.kind} for s in pairs)
    yield FILES[4], _json_lines(rows)


def _json_lines(rows: Iterable[Mapping[str, object]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def _acceptability(sentences: list[Sentence]) -> bytes:
    """Make two rows of each sentence that was corrected: 0 as it was, 1 corrected."""
    out = io.StringIO(newline="")
    table = csv.writer(out)
    table.writerow(("text", "label", "author"))
    for sentence in sentences:
        if sentence.source != sentence.target:
            table.writerow((sentence.source, 0, sentence.author))
            table.writerow((sentence.target, 1, sentence.author))
    return out.getvalue().encode()


def _sentences(archive: Archive, part: str) -> Iterator[Sentence]:
    metadata = archive.read("ua_gec/data/metadata.csv").decode()
    for document in csv.DictReader(io.StringIO(metadata, newline="")):
        if document["partition"] == part:
            first = document["annotator_id"].split()[0]
            yield from _document(archive, part, document["id"], f"a{first}", document["author_id"])


def _document(
    archive: Archive, part: str, name: str, annotator: str, author: str
) -> Iterator[Sentence]:
    def text(path: str) -> str:
        return archive.read(f"{_ROOT}/{part}/{path}").decode()

    paths = (
        f"source-sentences/{name}.src.txt",
        f"target-sentences/{name}.{annotator}.txt",
        f"source-sentences-tokenized/{name}.src.txt",
    )
    columns = [text(path).rstrip("\n").split("\n") for path in paths]
    marked = edits(text(f"annotated/{name}.{annotator}.ann"))
    return annotate(list(zip(*columns, strict=True)), marked, author)


def edits(annotated: str) -> list[Edit]:
    """Return the errors that a text marks, in order."""
    found: list[Edit] = []
    place = end = 0
    for match in _EDIT.finditer(annotated):
        before = annotated[end : match.start()]
        place += visible(before)
        width = visible(match[1].replace("\\n", "\n"))
        behind = bool(before) and not before[-1].isspace()
        found.append(Edit(place, place + width, match[3] or "Other", behind))
        place, end = place + width, match.end()
    return found


def visible(text: str) -> int:
    """Count the characters of a text but for white space."""
    return sum(not character.isspace() for character in text)


def annotate(lines: list[tuple[str, ...]], marked: list[Edit], author: str) -> Iterator[Sentence]:
    """Give the sentences (source, target, source in words) of a document their errors.

    A word is wrong that an error touches, and the one behind what is missing, as is usual (Rei and
    Yannakoudakis 2016); the last one where nothing is behind it. What is missing between two
    sentences may be written at either: it belongs to the one that changed.
    """
    start = 0
    for source, target, tokenized in lines:
        end = start + visible(source)
        touching = [e for e in marked if e.first <= end and e.last >= start]
        inside = [e for e in touching if _belongs(e, start, end)] or touching
        words = tokenized.split()
        tags = _tags(words, start, inside if source != target else [])
        kinds = {edit.kind for edit in inside} or {"Other"}
        kind = kinds.pop().replace("/", "_") if len(kinds) == 1 else "several"
        if words:
            yield Sentence(source, target, words, tags, kind, author)
        start = end


def _tags(words: list[str], start: int, inside: list[Edit]) -> list[str]:
    """Tag the words of a sentence that begins at ``start``."""
    ends = list(itertools.accumulate(map(visible, words), initial=start))
    wrong = set()
    for edit in inside:
        reach = max(edit.last, edit.first + 1)  # what is missing: up to the character behind it
        touched = [
            i for i, (a, b) in enumerate(itertools.pairwise(ends)) if a < reach and b > edit.first
        ]
        wrong |= set(touched or [len(words) - 1])
    return [WRONG if number in wrong else RIGHT for number in range(len(words))]


def _belongs(edit: Edit, start: int, end: int) -> bool:
    if edit.first < edit.last:
        return edit.first < end and edit.last > start
    if edit.first in (start, end):
        return edit.behind == (edit.first == end)
    return start < edit.first < end
