"""How many nodes train: as many as can share the global batch of every phase of a run."""

from collections.abc import Sequence
from pathlib import Path

from convbert.models.errors import UserError


def refusal(run_dir: Path, world: int) -> str | None:
    """Return why ``world`` processes cannot share the batches of all phases, None if they can."""
    # Only here: all load torch, and most attempts have all the nodes that were asked for.
    from convbert.pretrain.run.directory import RunDirectory
    from convbert.pretrain.run.division import BatchDivision
    from convbert.pretrain.run.timeline import stretches

    config = RunDirectory(run_dir).open()
    try:
        for change, _ in stretches(config):
            BatchDivision.of(change.global_batch or config.global_batch, change.micro_batch, world)
    except UserError as error:
        return str(error)
    return None


def largest_share(
    run_dir: Path, nodes: Sequence[str], *, least: int, most: int, per_node: int
) -> list[str]:
    """Return as many of ``nodes`` as can train with ``per_node`` processes each, ``least`` or more.

    None where no number of them can. ``most`` are what the job asks for: those can.
    """
    for count in range(len(nodes), least - 1, -1):
        if count == most or refusal(run_dir, count * per_node) is None:
            return list(nodes[:count])
    return []
