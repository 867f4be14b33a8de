"""Which run a checkpoint belongs to: its manifest holds the settings that decided its updates.

They decide what may go on from it, whatever ``config.yaml`` says: a file beside it may have been
written by another command, or be missing where a checkpoint was copied into a new directory.
Paths are left out: on another machine the same data lie elsewhere, and the trainer compares their
digests.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from convbert.models.errors import DamagedError, UserError
from convbert.models.faults import first_fault
from convbert.pretrain.run.checkpoint_manifest import (
    CheckpointManifest,
    checkpoint_directory,
    checkpoint_steps,
    read_manifest,
)
from convbert.pretrain.run.continuation import require_same_past
from convbert.pretrain.settings.differences import EXECUTION_KEYS
from convbert.pretrain.settings.run import RunConfig

_LEFT_OUT: dict[str, Any] = {
    **dict.fromkeys((key for key in EXECUTION_KEYS if "." not in key), True),
    "data": True,
    "phases": {"__all__": {"manifest", "sources", "micro_batch"}},
}


def identity(config: RunConfig) -> dict[str, Any]:
    """Return what decides a run's updates, as a configuration without paths."""
    content = config.model_dump(mode="json", exclude=_LEFT_OUT)
    start = config.model.init_from
    content["model"]["init_from"] = start and start.name
    return content


def require_same_run(
    place: str, manifest: CheckpointManifest, config: RunConfig, root: Path
) -> None:
    """Raise ``UserError`` where a run with ``config`` would not have made this checkpoint.

    The rule is that of a run that goes on with other settings. The checkpoint lies in ``root`` and
    came from ``place``. One of an earlier version, without settings, passes.
    """
    settings = manifest.trainer.get("settings")
    if settings is None:
        return
    try:
        theirs = RunConfig.model_validate(settings)
    except ValidationError as error:
        reason = first_fault(error)
        raise UserError(
            f"{place}: its settings cannot be read ({reason}); use the version that wrote it"
        ) from None
    ours = RunConfig.model_validate(identity(config))
    require_same_past(place, theirs, ours, manifest, root)


def newest_manifest(root: Path) -> CheckpointManifest | None:
    """Return the manifest of the newest checkpoint that has a sound one, None without any."""
    for step in reversed(checkpoint_steps(root)):
        try:
            return read_manifest(checkpoint_directory(root, step))
        except DamagedError:  # the start will take an older one, and say so
            continue
    return None
