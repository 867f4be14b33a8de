"""Files at an address, through fsspec: object stores, HTTP, or ``file://`` for a shared disk.

Each kind of store has its own package (``s3://``: s3fs, ``gs://``: gcsfs); credentials and
endpoints are theirs to find, from their environment variables or fsspec's configuration files.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import fsspec

from convbert.models.errors import TransientError, UserError

_ATTEMPTS = 5
_FIRST_WAIT_SECONDS = 0.5


Range = tuple[int | None, int | None]


class MissingError(UserError):
    """A file that its server does not have."""


def is_url(place: str) -> bool:
    """Tell an address from a path."""
    return "://" in place


def read_bytes(url: str) -> bytes:
    """Return a whole file; raises ``FileNotFoundError``, or ``UserError`` for other failures."""
    (content,) = fetch_ranges([url], [(None, None)], lambda number, content: None)
    if isinstance(content, MissingError):
        raise FileNotFoundError(url)
    if isinstance(content, UserError):
        raise content
    return content


def fetch_ranges(
    urls: Sequence[str],
    ranges: Sequence[Range],
    fault: Callable[[int, bytes], UserError | None],
) -> list[bytes | UserError]:
    """Fetch byte ranges of files of one store, together; return contents or what went wrong.

    What fails, or what ``fault`` finds wrong with the content of a number, is tried again, five
    times in all: networks cut and damage. A file that is not there is ``MissingError``.
    """
    fs, paths = _open_store(urls)
    found: list[bytes | UserError] = [UserError("not fetched")] * len(urls)
    todo = list(range(len(urls)))
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
        contents = fs.cat_ranges(
            [paths[n] for n in todo],
            [ranges[n][0] for n in todo],
            [ranges[n][1] for n in todo],
            on_error="return",
        )
        for number, content in zip(todo, contents, strict=True):
            found[number] = _judge(urls[number], ranges[number], content, number, fault)
        todo = [n for n in todo if type(found[n]) not in (bytes, MissingError)]
        if not todo:
            break
    return found


def _judge(
    url: str,
    wanted: Range,
    content: Any,
    number: int,
    fault: Callable[[int, bytes], UserError | None],
) -> bytes | UserError:
    if isinstance(content, FileNotFoundError):
        return MissingError(f"{url}: is missing")
    if isinstance(content, BaseException):
        reason = " ".join(str(content).split()) or type(content).__name__
        return TransientError(
            f"{url}: cannot be fetched ({reason}); check the address and the network"
        )
    start, end = wanted
    if start is not None and end is not None and len(content) > end - start:
        return UserError(
            f"{url}: the server sends whole files when asked for a part; use one that knows "
            "HTTP range requests"
        )
    return fault(number, bytes(content)) or bytes(content)


def size_of(url: str) -> int | None:
    """Return the size of a file, None if the store does not say."""
    fs, (path,) = _open_store([url])
    try:
        size: int | None = fs.size(path)
    except Exception:  # each store has errors of its own
        return None
    return size


def _open_store(urls: Sequence[str]) -> tuple[Any, list[str]]:
    try:
        fs, _ = fsspec.core.url_to_fs(urls[0])
        return fs, [fs._strip_protocol(url) for url in urls]
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{urls[0]}: this kind of address needs a package ({reason})") from None
    except Exception as error:  # each store has errors of its own: bad names, no credentials
        raise UserError(
            f"{urls[0]}: cannot be used ({type(error).__name__}: {error}); check the address"
        ) from None
