"""How long a corpus takes and what it needs, by arithmetic from measured rates."""

from dataclasses import dataclass

_PIECE_FILES = 4
_ENTRY_BYTES, _KEY_BYTES = 12, 16


@dataclass(frozen=True)
class Rates:
    """What one core does in a second of CPU, and what text is like.

    The defaults were measured with ``tests/benchmarks/bench_corpus.py`` (docs/benchmarks/corpus.md)
    or are stated as assumptions in docs/scale.md.
    """

    clean: float = 4.5e6  # bytes: read, clean, filter, hash, write pieces
    match: float = 1.5e6  # entries of band hashes
    pack: float = 8.0e6  # bytes: tokenize and pack one length
    write: float = 200e6  # bytes of shards
    document_bytes: float = 3_000  # assumed: web pages after extraction
    kept_by_filters: float = 0.5  # assumed, of the bytes
    kept_by_dedup: float = 0.6  # assumed, of the bytes that filters kept
    in_clusters: float = 0.5  # assumed, of the documents: those with a duplicate
    token_bytes: float = 4.5  # of text, per token
    compressed: float = 0.42  # of the text, by zstd in the pieces
    fill: float = 0.86  # of a row that is not padding


@dataclass(frozen=True)
class Need:
    """What a corpus takes: one line of the table."""

    name: str
    value: str


def plan(
    text_bytes: float,
    nodes: int,
    cores: int,
    *,
    lengths: int = 2,
    bands: int = 14,
    piece_bytes: float = 256e6,
    shard_bytes: float = 256e6,
    range_entries: float = 8e6,
    rates: Rates | None = None,
) -> list[Need]:
    """Return core hours, wall-clock hours, scratch, files and memory for ``text_bytes`` of text."""
    r = rates or Rates()
    filtered = text_bytes * r.kept_by_filters
    documents = filtered / r.document_bytes
    entries = documents * (bands + 1)
    kept = filtered * r.kept_by_dedup
    tokens = kept / r.token_bytes
    rows = lengths * 2 * tokens / r.fill
    seconds = {
        "clean": text_bytes / r.clean,
        "match": entries / r.match,
        "pack": kept * (1 + 0.25 * (lengths - 1)) / r.pack,
        "shards": rows / r.write,
    }
    hours = {name: value / 3600 for name, value in seconds.items()}
    total = sum(hours.values())
    pieces, shards = filtered / piece_bytes, rows / shard_bytes
    scratch = {
        "pieces": filtered * r.compressed,
        "hashes": entries * _ENTRY_BYTES + documents * _KEY_BYTES,
        "rows": rows,
    }
    files = pieces * (_PIECE_FILES + lengths + 1) + shards * 5 + entries / range_entries
    return [
        Need("text", f"{text_bytes / 1e12:,.0f} TB"),
        Need("documents behind the filters", f"{documents / 1e6:,.0f} million"),
        Need("tokens kept", f"{tokens / 1e9:,.0f} billion"),
        *(Need(f"core hours, {name}", f"{value:,.0f}") for name, value in hours.items()),
        Need("core hours", f"{total:,.0f}"),
        Need(f"hours on {nodes} nodes of {cores} cores", f"{total / nodes / cores:,.1f}"),
        *(Need(f"scratch, {name}", f"{value / 1e12:,.2f} TB") for name, value in scratch.items()),
        Need("shards", f"{rows / 1e12:,.2f} TB"),
        Need("scratch and shards", f"{(sum(scratch.values()) + rows) / 1e12:,.1f} TB"),
        Need("files at the peak", f"{files:,.0f}"),
        Need("shard files that stay", f"{2 * shards:,.0f}"),
        Need("match tasks", f"{max(1, entries / range_entries):,.0f}"),
        Need("memory of the last match task", f"{documents * r.in_clusters * 60 / 1e9:,.1f} GB"),
    ]
