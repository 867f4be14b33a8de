"""Find the files that paths, directories, globs and URLs stand for, and say what is left out."""

import logging
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path

from fsspec.utils import glob_translate

from convbert.data_pipeline.documents import shown
from convbert.data_pipeline.readers.detect import SUFFIXES, is_data
from convbert.data_pipeline.readers.inputs import InputFile, is_url, remote
from convbert.data_pipeline.readers.options import Format, setting
from convbert.models.errors import AbsentError, UserError

log = logging.getLogger(__name__)

HIDDEN, UNKNOWN, DEVICE = "hidden", "name tells no format", "pipe or device"
BROKEN, AGAIN, EMPTY = "broken link", "file that was found already", "empty"
_NAMED, _EXAMPLES = 3, 20


@dataclass
class Found:
    """Files in a fixed order, each once; and what was left out: how many by reason, some names."""

    files: list[InputFile] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, name: str, reason: str) -> None:
        """Count a file that is not read."""
        self.left_out[reason] += 1
        if len(named := self.examples.setdefault(reason, [])) < _EXAMPLES:
            named.append(shown(name))

    def said(self) -> list[str]:
        """Return a line for each reason why files are not read."""
        lines = []
        for reason, count in self.left_out.most_common():
            named = ", ".join(self.examples[reason][:_NAMED])
            more = ", ..." if count > _NAMED else ""
            hint = f"; give it by name or set {setting('format', 'NAME')}"
            lines.append(
                f"{count:,} file(s) not read ({reason}): {named}{more}"
                f"{hint if reason == UNKNOWN else ''}"
            )
        return lines


def input_files(inputs: Iterable[str | Path], kind: Format | None = None) -> list[InputFile]:
    """Expand files, directories, globs and URLs to a list in a fixed order, each file once.

    What was left out is said through the log. See ``find_files``.
    """
    found = find_files(inputs, kind)
    for line in found.said():
        log.warning(line)
    return found.files


def find_files(inputs: Iterable[str | Path], kind: Format | None = None) -> Found:
    """Expand files, directories, globs and URLs.

    A directory stands for the files below it, also behind links, whose names tell that they hold
    data; for all of them if ``kind`` says what they are. Hidden ones are left out unless they are
    named. A file that has several names is read once, by the first that is found. Raises
    ``AbsentError`` for an entry without a readable file.
    """
    search = _Search(kind)
    for entry in map(str, inputs):
        search.add(entry)
    return search.found


def would_find(entry: str, path: Path) -> bool:
    """Return whether an input, as a directory or a glob, stands for a file that may come to be."""
    if is_url(entry):
        return False
    if os.path.isdir(entry):
        return path.resolve().is_relative_to(Path(entry).resolve())
    return bool(re.match(glob_translate(os.path.abspath(entry)), os.path.abspath(path)))


class _Search:
    """Files that were found so far, each known by device and inode, or by its URL."""

    def __init__(self, kind: Format | None) -> None:
        self.found = Found()
        self._kind = kind
        self._known: set[tuple[int, int] | str] = set()

    def add(self, entry: str) -> None:
        """Add the files of an input; raises ``AbsentError`` if there are none."""
        before = len(self._known), self.found.left_out[AGAIN]
        if is_url(entry):
            self._add_remote(entry)
        elif os.path.lexists(entry):
            self._add_path(entry, named=True)
        else:
            for match in _matches(entry):
                self._add_path(match)
        if (len(self._known), self.found.left_out[AGAIN]) == before:
            reasons = "; ".join(["", *self.found.said()])
            raise AbsentError(
                f"{shown(entry)}: no such file and no readable file below it{reasons}; check the "
                f"path (a directory is searched for {', '.join(SUFFIXES)}, also compressed)"
            )

    def _add_path(self, path: str, *, named: bool = False) -> None:
        if not os.path.isdir(path):
            self._add_file(path, named=named)
            return
        for below in _walk(path, self.found):
            if self._kind is not None or is_data(below):
                self._add_file(below)
            else:
                self.found.leave_out(below, UNKNOWN)

    def _add_file(self, path: str, *, named: bool = False) -> None:
        try:
            state = os.stat(path)
        except OSError:
            self.found.leave_out(path, BROKEN)
            return
        if not named and not stat.S_ISREG(state.st_mode):
            self.found.leave_out(path, DEVICE)
            return
        if not named and not state.st_size:  # what ended before it began, as a download may
            self.found.leave_out(path, EMPTY)
            return
        self._keep(path, (state.st_dev, state.st_ino))

    def _keep(self, name: str, identity: tuple[int, int] | str) -> None:
        if identity in self._known:
            self.found.leave_out(name, AGAIN)
        else:
            self._known.add(identity)
            self.found.files.append(InputFile(name))

    def _add_remote(self, url: str) -> None:
        filesystem, path = remote(url)
        try:
            if has_magic(path):
                names = [p for p in sorted(filesystem.glob(path)) if not filesystem.isdir(p)]
            elif filesystem.isdir(path):
                names = [p for p in sorted(filesystem.find(path)) if self._wanted(p, path)]
            else:
                names = [path] if filesystem.exists(path) else []
        except Exception as error:  # every file system has its own: no credentials, no route, ...
            raise UserError(
                f"{url}: cannot be listed ({type(error).__name__}: "
                f"{' '.join(str(error).split())}); check the URL and the credentials"
            ) from None
        for name in names:
            address = url if name == path else filesystem.unstrip_protocol(name)
            self._keep(address, filesystem.unstrip_protocol(name))

    def _wanted(self, name: str, folder: str) -> bool:
        if any(map(_is_hidden, name.removeprefix(folder).split("/"))):
            self.found.leave_out(name, HIDDEN)
        elif self._kind is None and not is_data(name):
            self.found.leave_out(name, UNKNOWN)
        else:
            return True
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _walk(folder: str, found: Found | None = None) -> Iterator[str]:
    """Yield the files below a directory in order, each directory once whatever leads there.

    Hidden ones and directories that cannot be listed are left out of ``found``.
    """
    seen: set[tuple[int, int]] = set()

    def visit(path: str) -> Iterator[str]:
        state = os.stat(path)
        if (state.st_dev, state.st_ino) in seen:
            return
        seen.add((state.st_dev, state.st_ino))
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            raise UserError(
                f"{shown(path)}: cannot be listed ({error.strerror}); check its permissions"
            ) from None
        for name in names:
            below = os.path.join(path, name)
            if _is_hidden(name):
                if found is not None:
                    found.leave_out(below, HIDDEN)
            elif os.path.isdir(below):
                yield from visit(below)
            else:
                yield below

    return visit(folder)


def _matches(pattern: str) -> list[str]:
    """Return the paths that a glob stands for; ``**`` goes through each directory once."""
    if "**" not in pattern:
        return sorted(glob(pattern))
    start = re.split(r"[^/]*[*?\[]", pattern, maxsplit=1)[0]
    fits = re.compile(glob_translate(pattern))
    paths: dict[str, None] = {}
    for path in _walk(start or ".") if os.path.isdir(start or ".") else ():
        name = path if start else path.removeprefix("./")
        if fits.match(name):
            paths[name] = None
    return sorted(paths)
