"""Last task, one per shard: write rows of many pieces as the tar that a serial writer would."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path

import numpy as np

from convbert.data_pipeline.atomic import atomic_directory, atomic_write
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.corpus_build.engine import Engine
from convbert.data_pipeline.corpus_build.pack import Packed
from convbert.data_pipeline.corpus_build.tasks import once
from convbert.data_pipeline.shards.manifest import Manifest, Shard, index_name
from convbert.data_pipeline.shards.writer import MEMBER_SEQUENCES, ShardWriter, members_per_shard
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError


@dataclass(frozen=True)
class ShardTask:
    """Shard ``number`` of a set of rows: ``[first, last)`` of those that a file lists.

    ``block`` is the number of its first member.
    """

    number: int
    block: int
    first: int
    last: int
    rows: Path
    seq_len: int
    vocab_size: int
    shard_bytes: int
    folder: Path


@dataclass(frozen=True)
class MadeShards:
    """The shards of one length, each in the folder of its task."""

    manifest: Manifest
    folders: list[Path]

    def place(self, out: Path, *, replace: bool) -> None:
        """Put them at ``out``; raises ``UserError`` for others there that are not to go."""
        if (out / "manifest.json").is_file():
            if Manifest.load(out).digest == self.manifest.digest:
                return
            if not replace:
                raise UserError(f"{out}: holds other shards; remove it or choose another directory")
        with atomic_directory(out, replace=replace) as temporary:
            for shard, folder in zip(self.manifest.shards, self.folders, strict=True):
                for name in (shard.name, index_name(shard.name)):
                    _place(folder / name, temporary / name)
            self.manifest.save(temporary / "manifest.json")


def make_shards(
    engine: Engine,
    packed: Sequence[Packed],
    seq_len: int,
    tokenizer: Tokenizer,
    config: BuildConfig,
    work: Path,
    done: Callable[[int], None],
) -> MadeShards:
    """Write the shards of one length below ``work``; ``done`` is called with bytes written."""
    work.mkdir(parents=True, exist_ok=True)
    listed = work / "rows.json"
    ends = list(accumulate(part.report.rows[seq_len] for part in packed))
    files = [str(part.folder / f"rows-{seq_len}.npy") for part in packed]
    with atomic_write(listed) as file:
        file.write(json.dumps(list(zip(files, ends, strict=True))).encode())
    shard_bytes = config.shards.megabytes << 20
    members = members_per_shard(seq_len, tokenizer.vocab_size, shard_bytes)
    size = members * MEMBER_SEQUENCES
    tasks = [
        ShardTask(
            number=number,
            block=number * members,
            first=first,
            last=min(first + size, ends[-1]),
            rows=listed,
            seq_len=seq_len,
            vocab_size=tokenizer.vocab_size,
            shard_bytes=shard_bytes,
            folder=work / f"{number:06d}",
        )
        for number, first in enumerate(range(0, ends[-1], size))
    ]
    shards = engine.map(run_shard, tasks, lambda shard: done(shard.bytes))
    manifest = Manifest(
        tool=f"convbert-pretrain {version('convbert-pretrain')}",
        tokenizer_digest=tokenizer.digest,
        vocab_size=tokenizer.vocab_size,
        pad_id=tokenizer.pad_id,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        seq_len=seq_len,
        packing=config.shards.packing,
        num_documents=sum(part.report.documents for part in packed),
        num_sequences=ends[-1],
        num_tokens=sum(part.report.tokens_in_rows[seq_len] for part in packed),
        build=config.recorded(),
        shards=shards,
    )
    return MadeShards(manifest, [task.folder for task in tasks])


def run_shard(task: ShardTask) -> Shard:
    """Do the task unless it is done, and return the shard's entry of the manifest."""
    once(task.folder, lambda folder: _write(task, folder))
    return Shard.model_validate_json((task.folder / "shard.json").read_bytes())


def _write(task: ShardTask, folder: Path) -> None:
    with ShardWriter(
        folder,
        task.seq_len,
        task.vocab_size,
        task.shard_bytes,
        first_shard=task.number,
        first_block=task.block,
    ) as writer:
        start = 0
        for path, end in _listed(task.rows):
            if end > task.first and start < task.last:
                rows = np.load(path, mmap_mode="r")
                writer.write(rows[max(0, task.first - start) : task.last - start])
            start = end
    (shard,) = writer.shards
    (folder / "shard.json").write_bytes(shard.model_dump_json().encode())


@cache
def _listed(rows: Path) -> list[tuple[str, int]]:
    """Read the files of rows and where each ends, counted over all."""
    return [(name, end) for name, end in json.loads(rows.read_bytes())]


def _place(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
