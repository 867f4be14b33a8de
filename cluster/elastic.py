"""On how many nodes a run trains: as many as can share the global batch of every phase."""

from collections.abc import Sequence
from pathlib import Path

from convbert.models.errors import UserError
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.division import BatchDivision
from convbert.pretrain.run.timeline import stretches


def refusal(run_dir: Path, world: int) -> str | None:
    """Return why ``world`` processes cannot share the batches of all phases, None if they can."""
    config = RunDirectory(run_dir).open()
    try:
        for change, _ in stretches(config):
            BatchDivision.of(change.global_batch or config.global_batch, change.micro_batch, world)
    except UserError as error:
        return str(error)
    return None


def usable_nodes(
    run_dir: Path, nodes: Sequence[str], *, least: int, most: int, per_node: int
) -> list[str]:
    """Return as many of ``nodes`` as can train with ``per_node`` processes each, ``least`` or more.

    The list is empty where no number of them can. The job asks for ``most`` nodes, which can always
    train: the run was checked for them when it was submitted.
    """
    for count in range(len(nodes), least - 1, -1):
        if count == most or refusal(run_dir, count * per_node) is None:
            return list(nodes[:count])
    return []
