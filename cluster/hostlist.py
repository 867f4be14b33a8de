"""SLURM's short notation for many hosts, ``node[01-03,7],login``, without scontrol."""

import re
from collections.abc import Iterator

_SPLIT = re.compile(r",(?![^\[]*\])")  # commas outside brackets
_BRACKETS = re.compile(r"^([^\[]*)\[([^\]]*)\](.*)$")


def expand(hostlist: str) -> list[str]:
    """Return the hosts of a list in order, e.g. ``n[08-10]`` as ``n08 n09 n10``."""
    parts = _SPLIT.split(hostlist) if hostlist else []
    return [host for part in parts for host in _expand(part)]


def _expand(part: str) -> Iterator[str]:
    match = _BRACKETS.match(part)
    if match is None:
        yield part
        return
    prefix, ranges, rest = match.groups()
    for piece in ranges.split(","):
        low, _, high = piece.partition("-")
        for number in range(int(low), int(high or low) + 1):
            for tail in _expand(rest):
                yield f"{prefix}{number:0{len(low)}d}{tail}"
