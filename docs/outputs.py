"""Run the commands of pages, and write what they print below them.

``python docs/outputs.py README.md docs/report.md --folder work`` runs the pages' blocks in order,
as a reader would, in the folder ``work``. Where ``<!-- output -->`` and a block of text follow a
block of commands, that text becomes what the commands printed; with ``--times`` its title says how
long they took, for a machine that does nothing else. The mark may say which lines are kept:
``<!-- output: first 4, last 6 -->``. Blocks of YAML and Python that begin with a comment that names
a file are written to it. Blocks marked ``<!-- needs: ... -->`` run only with ``--all``.
"""

import argparse
import os
import pty
import re
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

COLUMNS = 80

_BLOCK = re.compile(
    r"(?P<mark> *<!-- (?:needs|tested): [^>]+ -->\n)?"
    r"(?P<indent> *)```(?P<kind>bash|yaml|python)\n(?P<body>.*?)^(?P=indent)```\n"
    r"(?P<output>\n *<!-- output(?:: (?P<kept>[^>]+))? -->\n"
    r" *```text[^\n]*\n(?P<shown>.*?)^ *```\n)?",
    re.M | re.S,
)
_FILE = re.compile(r"# ([\w./-]+\.(?:ya?ml|py))\n")
_ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\].*?(?:\x07|\x1b\\)")


@dataclass(frozen=True)
class Block:
    """A block of a page, with the output that is shown below it (None: it shows none)."""

    kind: str
    body: str
    marked: bool
    shown: str | None
    kept: str | None
    span: tuple[int, int]
    indent: str

    @property
    def file(self) -> str | None:
        """The file that a block of YAML or Python is saved as."""
        named = _FILE.match(self.body)
        return named[1] if named and self.kind != "bash" else None


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of commands and files on a page, in order."""
    for match in _BLOCK.finditer(page):
        indent = match["indent"]
        body, shown = (
            None if text is None else re.sub(f"^{indent}", "", text, flags=re.M)
            for text in (match["body"], match["shown"])
        )
        yield Block(
            match["kind"], body or "", bool(match["mark"]), shown, match["kept"],
            match.span("output"), indent,
        )  # fmt: skip


def run(commands: str, folder: Path) -> tuple[str, float]:
    """Run commands as a shell that stops at the first failure; return the screen and the seconds.

    Standard output is a terminal of ``COLUMNS`` columns, so that tables look as they do for a
    reader; messages go through a pipe, so that training prints lines and no moving panel.
    """
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    own = {
        "COLUMNS": str(COLUMNS),
        "TERM": "xterm",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.monotonic()
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=os.environ | own,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        assert process.stderr is not None
        printed = _read(ours, process.stderr.fileno())
    os.close(ours)
    screen = _screen(printed)
    if process.returncode:
        raise SystemExit(f"{commands}\n{screen}\nexit status {process.returncode}")
    return screen, time.monotonic() - start


def _read(*descriptors: int) -> str:
    printed = b""
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                try:
                    chunk = os.read(key.fd, 65536)
                except OSError:  # a terminal whose last writer has gone
                    chunk = b""
                printed += chunk
                if not chunk:
                    selector.unregister(key.fd)
    return printed.decode(errors="replace")


def _screen(printed: str) -> str:
    """Return what a terminal shows in the end: bars that were drawn over are gone."""
    lines, row, position = [""], 0, 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\x1b\].*?(?:\x07|\x1b\\)|\r|\n)", printed):
        escape = _ESCAPE.fullmatch(part)
        if part == "\n":
            row, position = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            position = 0
        elif escape and escape[2] == "A":
            row = max(0, row - int(escape[1] or 1))
        elif escape and escape[2] == "K":
            lines[row] = "" if escape[1] == "2" else lines[row][:position]
        elif not escape and part:
            line = lines[row].ljust(position)
            lines[row] = line[:position] + part + line[position + len(part) :]
            position += len(part)
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def without_this_machine(text: str, folder: Path) -> str:
    """Return the text with names of a reader in place of this machine's."""
    text = text.replace(str(folder.resolve()), "/home/you/work").replace(
        socket.gethostname(), "node"
    )
    return re.sub(r"/\S+/(site-packages|src/convbert)/", r".../\1/", text)


def excerpt(text: str, kept: str | None) -> str:
    """Return the lines that a mark keeps, "..." in place of the others."""
    numbers = dict(re.findall(r"(first|last) (\d+)", kept or ""))
    first, last = int(numbers.get("first", 0)), int(numbers.get("last", 0))
    lines = text.splitlines()
    if not numbers or len(lines) <= first + last + 1:
        return text
    return "\n".join([*lines[:first], "...", *lines[len(lines) - last :]])


def duration(seconds: float) -> str:
    """Return a duration as a reader wants it."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def write(page: Path, folder: Path, *, everything: bool = False, times: bool = False) -> None:
    """Run a page's blocks and write their output into it."""
    text, done = page.read_text(), ""
    position = 0
    for block in blocks(text):
        if block.file:
            (folder / block.file).write_text(block.body)
        if block.kind != "bash" or (block.marked and not everything):
            continue
        print(block.body, end="", flush=True)
        screen, seconds = run(block.body, folder)
        print(f"{screen}\n[{duration(seconds)}]", flush=True)
        if block.shown is None:
            continue
        shown = excerpt(without_this_machine(screen, folder), block.kept)
        mark = f"<!-- output{': ' + block.kept if block.kept else ''} -->"
        title = f"Output, {duration(seconds)}" if times else "Output"
        lines = ["", mark, f'```text title="{title}"', *shown.splitlines(), "```", ""]
        done += text[position : block.span[0]]
        done += "\n".join(block.indent + line if line else "" for line in lines)
        position = block.span[1]
        page.write_text(done + text[position:])


def main() -> None:
    """Run the pages that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="where the commands run")
    parser.add_argument("--all", action="store_true", help="also run blocks marked with needs")
    parser.add_argument("--times", action="store_true", help="say how long commands took")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for page in arguments.pages:
        write(page, arguments.folder, everything=arguments.all, times=arguments.times)


if __name__ == "__main__":
    main()
