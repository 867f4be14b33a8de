"""How files become documents."""

import codecs
from typing import Any, Literal

from pydantic import Field, field_validator

from convbert.models.schema import StrictModel

Format = Literal["text", "jsonl", "csv", "tsv", "parquet", "warc", "mediawiki"]
Unit = Literal["file", "line", "paragraph"]


def option_name(name: str) -> str:
    """Return what an option is called on the command line, where ``--format`` is of the output."""
    return "input-format" if name == "format" else name.replace("_", "-")


def setting(name: str, value: str) -> str:
    """Name an option as messages do: on the command line, and in a section ``reader``."""
    option = f"--{option_name(name)} {value}"
    if value == "false":
        option = f"--no-{name.replace('_', '-')}"
    return f"{option} ({name}: {value} in YAML)"


class ReaderOptions(StrictModel):
    """Options of all formats; each reader uses those that concern it."""

    unit: Unit = Field("file", description="what a document is in a text file")
    field: str = Field(
        "text", description="JSON key or column that holds the text", examples=["content"]
    )
    id_field: str | None = Field(
        None, description="key or column of an id; default: the position", examples=["url"]
    )
    meta_fields: tuple[str, ...] = Field(
        (), description="keys or columns kept with the text", examples=[["url", "date"]]
    )
    format: Format | None = Field(None, description="of every input; default: seen from each file")
    encoding: str = Field("utf-8", description="of text, JSON lines and tables; an ASCII superset")
    invalid: Literal["stop", "replace"] = Field(
        "stop", description="what to do with bytes that are no characters"
    )
    on_bad_record: Literal["stop", "skip"] | None = Field(
        None,
        description="records that cannot be read: stop, or count and show them and go on; default: "
        "skip in WARC and MediaWiki dumps, whose pages nobody can mend, else stop",
        exclude_if=lambda value: value is None,  # what older builds recorded stays the same
    )
    quotes: bool = Field(True, description="whether double quotes may enclose a field of a table")
    html: Literal["main", "all"] = Field(
        "main", description="text taken from web pages: without navigation and the like, or all"
    )
    namespaces: tuple[int, ...] = Field(
        (0,), description="numbers of MediaWiki's namespaces that are read; 0 holds articles"
    )
    max_megabytes: int = Field(
        64,
        gt=0,
        le=4096,
        description="longest document in bytes of the file, so that memory is bounded",
    )

    def skips(self, kind: Format) -> bool:
        """Whether a bad record of a format is passed over."""
        is_foreign = kind in ("warc", "mediawiki")
        return self.on_bad_record == "skip" or (self.on_bad_record is None and is_foreign)

    @property
    def is_utf8(self) -> bool:
        """Whether the encoding is UTF-8, under whatever name."""
        return codecs.lookup(self.encoding).name == "utf-8"

    @property
    def max_bytes(self) -> int:
        """The longest document in bytes."""
        return self.max_megabytes << 20

    def recorded(self) -> dict[str, Any]:
        """Return ``unit``, ``field`` and what differs from the defaults, as manifests hold it."""
        changed = self.model_dump(mode="json", exclude_defaults=True)
        return {"unit": self.unit, "field": self.field, **changed}

    @field_validator("encoding")
    @classmethod
    def _is_ascii_superset(cls, value: str) -> str:
        try:
            fits = codecs.lookup(value).name and bytes(range(10, 127)).decode(value)[0] == "\n"
        except (LookupError, UnicodeDecodeError):
            fits = False
        if not fits:
            raise ValueError("is no known superset of ASCII; convert the files, e.g. with iconv")
        return value
