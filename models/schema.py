"""Files of pydantic models, JSON beside data and YAML of users, refused in one line."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from convbert.models.errors import UserError


class Record(BaseModel):
    """Base of what such files hold: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Kind = TypeVar("Kind", bound=Record)


def first_fault(error: ValidationError) -> str:
    """Return key and message of the first thing that pydantic found."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, first['loc'])) or 'file'}: {message}"


def read_yaml(path: Path) -> Any:
    """Read a YAML file; ``UserError`` says why it cannot be and what to do."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not YAML ({reason}); mend it") from None


def parse(kind: type[Kind], content: bytes, place: object, *, what: str, remedy: str) -> Kind:
    """Read a record; ``UserError`` says that the file at ``place`` is not ``what``."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{place}: not {what} ({first_fault(error)}); {remedy}") from None
