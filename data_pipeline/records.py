"""Files that say what lies beside them: JSON of a pydantic model, refused in one line."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from convbert.models.errors import UserError


class Record(BaseModel):
    """Base of what such files hold: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = TypeVar("Kind", bound=Record)


def first_fault(error: ValidationError) -> str:
    """Return key and message of the first thing that pydantic found."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"


def parse(kind: type[Kind], content: bytes, place: object, *, what: str, remedy: str) -> Kind:
    """Read a record; ``UserError`` says that the file at ``place`` is not ``what``."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{place}: not {what} ({first_fault(error)}); {remedy}") from None
