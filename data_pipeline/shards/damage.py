"""The damaged blocks that a run skips.

Damage is a ``DamagedError``: a shard, index or member that is missing, cut or altered. An I/O error
or an unreachable server is a ``TransientError``: it stops a run whatever the policy.

A run with ``on_damage: skip`` replaces a block of sequences that cannot be read by another block of
the same corpus and goes on: batches keep their size and every other position its sequence. The
substitute is a pure function of the manifest's digest and the block's number, so processes that see
the same files agree without talking. What was skipped is recorded in the run, one small file per
block, and stays skipped when the run continues, even if the shard has been repaired since: the run
is a function of its configuration and these files.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError
from convbert.models.schema import StrictModel

OnDamage = Literal["stop", "skip"]


class SkippedBlock(StrictModel):
    """Sequences that a run leaves out, and what it reads in their place."""

    manifest: str = Field(description="digest of the corpus they belong to")
    first: int = Field(description="number of the first skipped sequence, as stored")
    last: int = Field(description="number after the last")
    substitute: int = Field(description="number of the first sequence read instead")
    reason: str


class DamageLog:
    """The skipped blocks of a run: a directory of small files that any process may add to.

    A block's file has the same name and numbers whoever writes it, and the first writer wins, so no
    locks are needed on whatever file system the run lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> list[SkippedBlock]:
        """Return the recorded blocks, sorted; raises ``UserError`` for an unreadable record."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(SkippedBlock.model_validate_json(path.read_bytes()))
            except (OSError, ValidationError):
                raise UserError(
                    f"{path}: not a record of a skipped block; restore it, without it the run "
                    "cannot continue on the same data"
                ) from None
        return found

    def add(self, block: SkippedBlock) -> None:
        """Record a block unless it is recorded already; raises ``UserError`` if that fails."""
        path = self.folder / f"{block.manifest[:12]}-{block.first:012d}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                with atomic_write(path) as file:
                    file.write(block.model_dump_json(indent=1).encode() + b"\n")
        except OSError as error:
            raise UserError(
                f"{path}: a skipped block cannot be recorded ({os.strerror(error.errno or 0)}); "
                "make room or check permissions"
            ) from None
