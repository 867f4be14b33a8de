"""Records with named fields, as JSON lines, tables and parquet files hold them."""

from collections.abc import Mapping
from typing import Any

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.options import ReaderOptions
from convbert.models.errors import UserError


def to_document(
    record: object, name: str, position: int, where: str, options: ReaderOptions
) -> Document:
    """Take text, id and further fields out of a record; ``UserError`` names what is missing."""
    if not isinstance(record, Mapping):
        kind = type(record).__name__
        raise UserError(f"{where}: is a {kind}, not an object with '{options.field}'; mend it")
    text = _required(record, options.field, where, "field")
    if not isinstance(text, str):
        raise UserError(f"{where}: '{options.field}' is {text!r:.40}, not text; mend or remove it")
    number = f"{name}#{position}"
    if options.id_field is not None:
        number = str(_required(record, options.id_field, where, "id_field"))
    meta = {key: _plain(record[key]) for key in options.meta_fields if key in record}
    return Document(number, text, name, meta)


def _required(record: Mapping[str, Any], key: str, where: str, option: str) -> Any:
    if key not in record:
        found = ", ".join(map(str, record))
        raise UserError(f"{where}: has no '{key}' (found: {found}); set {option}")
    return record[key]


def _plain(value: Any) -> Any:
    """Return a value JSON can hold: dates and the like of parquet files become text."""
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    return value if isinstance(value, str | int | float | None) else str(value)
