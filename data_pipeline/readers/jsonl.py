"""JSON lines: an object per line."""

import io
import json
from collections.abc import Iterator

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.lines import numbered_lines
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.data_pipeline.readers.records import to_document
from convbert.models.errors import UserError


def read_jsonl(stream: io.BufferedReader, name: str, options: ReaderOptions) -> Iterator[Document]:
    """Yield documents whose position is their line."""
    for number, line in numbered_lines(stream, name, options):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            reason = getattr(error, "msg", "nested too deeply")
            raise UserError(f"{where}: not JSON ({reason}); mend or remove it") from None
        document = to_document(record, name, number, where, options)
        # An escape may stand for half a surrogate pair, which is no character.
        if "\\ud" in line or "\\uD" in line:
            document = document.with_text(document.text.encode("utf-8", "replace").decode())
        yield document
