"""Show what a shard set holds, as figures and as readable rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from convbert.data_pipeline.filters.corpus_settings import CorpusConfig
from convbert.data_pipeline.shards.manifest import Manifest, manifest_path
from convbert.data_pipeline.shards.sources import open_store
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError


def info(manifest: Path | str) -> list[tuple[str, str]]:
    """Return the figures of a shard set as (name, value), for a table."""
    path = manifest_path(manifest)
    content = Manifest.load(path)
    sizes = [shard.bytes for shard in content.shards]
    return [
        ("manifest", str(path)),
        ("digest", content.digest),
        ("built by", content.tool),
        ("tokenizer", f"{content.tokenizer_digest[:12]}, {content.vocab_size:,} ids"),
        ("packing", f"{content.packing}, {content.seq_len} tokens a sequence"),
        ("documents", "unknown" if content.num_documents is None else f"{content.num_documents:,}"),
        ("sequences", f"{content.num_sequences:,}"),
        ("tokens", f"{content.num_tokens:,} ({content.fill:.1%} of the room)"),
        ("shards", f"{len(sizes):,}, {sum(sizes) / 1e6:,.1f} MB"),
        *_build_figures(content.build),
    ]


def _build_figures(build: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the settings of a build; of a source of text, those that are not the defaults."""
    for name, value in build.items():
        if name == "sources":
            for number, source in enumerate(value, 1):
                yield f"build: source {number}", _changed(source)
        else:
            yield f"build: {name}", str(value)


def _changed(source: dict[str, Any]) -> str:
    try:
        config = CorpusConfig.model_validate({**source, "inputs": ["any"]})
    except ValidationError:  # written by a version with other settings
        return json.dumps(source)
    changed = config.model_dump(mode="json", exclude_defaults=True, exclude={"inputs"})
    return json.dumps(changed) if changed else "default reader, cleaning and filters"


def head(
    manifest: Path | str, tokenizer: Tokenizer, count: int, *, first: int = 0, ids: bool = False
) -> Iterator[str]:
    """Yield lines that show ``count`` stored sequences from number ``first`` on.

    Every segment (A, B) or document (1, 2, ...) is a line with its number of tokens and its text,
    with ``ids`` followed by a line of ids. Raises ``UserError`` for a tokenizer that is not the one
    of the shards.
    """
    path = manifest_path(manifest)
    content = Manifest.load(path)
    if tokenizer.digest != content.tokenizer_digest:
        raise UserError(
            f"{tokenizer.file}: is not the tokenizer of {path} ({tokenizer.digest[:12]} instead of "
            f"{content.tokenizer_digest[:12]}); give that one"
        )
    if not 0 <= first < content.num_sequences:
        raise UserError(
            f"first={first}: {path} holds {content.num_sequences} sequences; give a smaller number"
        )
    store = open_store(path, content)
    last = min(first + count, content.num_sequences)
    for number, row in enumerate(store.read([(first, last)]).tolist(), first):
        padding = row.count(content.pad_id)
        yield f"sequence {number:,}: {len(row) - padding} tokens, {padding} padding"
        for name, segment in _segments(row, content):
            yield f"  {name} ({len(segment)}) {tokenizer.decode(segment)}"
            if ids:
                yield "    " + " ".join(map(str, segment))
    store.close()


def _segments(row: list[int], manifest: Manifest) -> Iterator[tuple[str, list[int]]]:
    """Yield name and tokens of each part that a [SEP] ends."""
    names = iter("AB") if manifest.packing == "electra" else map(str, range(1, len(row)))
    segment: list[int] = []
    for token in row:
        if token == manifest.sep_id:
            yield next(names), segment
            segment = []
        elif token != manifest.cls_id:
            segment.append(token)
