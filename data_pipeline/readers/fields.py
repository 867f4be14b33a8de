"""Records with named fields, as JSON lines, tables and parquet files hold them."""

from collections.abc import Sequence
from typing import Any

from convbert.data_pipeline.documents import Document
from convbert.data_pipeline.readers.lines import too_long
from convbert.data_pipeline.readers.options import ReaderOptions, setting
from convbert.data_pipeline.readers.records import BadRecordError, Place
from convbert.models.errors import UserError


def to_document(record: object, place: Place, options: ReaderOptions) -> Document:
    """Take text, id and further fields out of a record.

    Raises ``BadRecordError`` for one that lacks them, or is longer than ``max_megabytes``.
    """
    if not isinstance(record, dict):
        kind = type(record).__name__
        remedy = "mend or remove it"
        if isinstance(record, list):
            remedy += "; a list becomes lines with jq -c '.[]'"
        raise BadRecordError(
            f"{place.where}: is a {kind}, not an object with '{options.field}'",
            remedy,
            "no object",
        )
    text = _required(record, options.field, place, "field")
    if not isinstance(text, str):
        raise BadRecordError(
            f"{place.where}: '{options.field}' is {text!r:.40}, not text",
            "mend or remove it",
            f"'{options.field}' is no text",
        )
    if 4 * len(text) > options.max_bytes and len(text.encode("utf-8", "surrogatepass")) > (
        options.max_bytes
    ):
        raise too_long(place.where, options)
    number = place.id
    if options.id_field is not None:
        number = str(_required(record, options.id_field, place, "id_field"))
    meta = {key: plain(record[key]) for key in options.meta_fields if key in record}
    return Document(number, text, place.name, meta)


def require_columns(present: Sequence[str], where: str, options: ReaderOptions) -> None:
    """Refuse a table without a wanted column, or with two of its name."""
    for option, key in (("field", options.field), ("id_field", options.id_field)):
        if key is None:
            continue
        if key not in present:
            raise UserError(str(missing(key, present, where, option)))
        if present.count(key) > 1:
            raise UserError(
                f"{where}: has {present.count(key)} columns '{key}'; rename all but one"
            )


def missing(key: str, found: Any, where: str, option: str) -> BadRecordError:
    """Return the error for a key or column that is not there."""
    listed = ", ".join(map(str, found))
    return BadRecordError(
        f"{where}: has no '{key}' (found: {listed:.200})",
        f"set {setting(option, 'NAME')}",
        f"no '{key}'",
    )


def _required(record: dict[str, Any], key: str, place: Place, option: str) -> Any:
    if key not in record:
        raise missing(key, record, place.where, option)
    return record[key]


def plain(value: Any) -> Any:
    """Return a value JSON can hold: dates and the like of parquet files become text."""
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return value if isinstance(value, str | int | float | None) else str(value)
