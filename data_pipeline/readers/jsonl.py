"""JSON lines: an object per line."""

import io
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.fields import to_document
from convbert.data_pipeline.readers.lines import decode, numbered_lines
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.data_pipeline.readers.records import BadRecordError, Place, Record


def read_jsonl(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Record]:
    """Yield records whose position is their line."""
    for number, line, whole in numbered_lines(stream, options.max_bytes):
        if line and not line.isspace():
            place = Place(name, "line", number)
            yield Record(place, line, partial(_document, place, line, whole, options))


def _document(place: Place, line: bytes, whole: bool, options: ReaderOptions) -> Document:
    text = decode(line, place, options, whole)
    try:
        record = _parse(text)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply")
        remedy = "mend or remove it"
        if place.number == 1 and text.strip() in ("[", "{"):
            remedy = "make lines of the file's one value, e.g. with jq -c '.[]'"
        raise BadRecordError(f"{place.where}: not JSON ({reason})", remedy, "not JSON") from None
    return to_document(record, place, options)


def _parse(text: str) -> Any:
    """Return the value of a line; an integer of more digits than Python converts stays text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # int() has a limit of 4,300 digits, for its time is quadratic
        return json.loads(text, parse_int=lambda digits: digits)
