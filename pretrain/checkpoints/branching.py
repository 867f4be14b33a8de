"""``convbert branch``: run directories that begin at a checkpoint of another run.

A branch holds the checkpoint's files itself, as hard links or copies, and so outlives its trunk.
Every branch is checked before the first directory is written, and each directory appears whole.
The trunk is only read and may be training.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convbert.data_pipeline.atomic import atomic_directory, atomic_write
from convbert.data_pipeline.digests import file_sha256
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.run import checks
from convbert.pretrain.run.branches import (
    FILE_NAME,
    Origin,
    branch_config,
    parse_decay,
    read_origin,
)
from convbert.pretrain.run.checkpoint_manifest import (
    MANIFEST,
    checkpoint_directory,
    checkpoint_steps,
    reading,
    verify,
)
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.run.tracking_uri import OFF, SQLITE
from convbert.pretrain.settings.differences import differences
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.tracking import metrics_log
from convbert.pretrain.tracking.records import StepRecord, process_hours
from convbert.pretrain.tracking.tracked_run import RUN_FILE, RunState, TrackedRun


@dataclass(frozen=True)
class Branch:
    """A branch to be written, or written: where it lies, its configuration and its origin."""

    run: RunDirectory
    config: RunConfig
    origin: Origin


def prepare_branches(
    trunk: RunDirectory,
    steps: Sequence[int],
    decay: str,
    *,
    overrides: Sequence[str] = (),
    output: Path | None = None,
    world: int = 1,
) -> list[Branch]:
    """Write a run directory for a branch at each of ``steps``, in ``output`` or beside the trunk.

    ``decay`` is what ``parse_decay`` takes, ``overrides`` are settings of execution and
    ``schedule.final_ratio``, ``world`` is the processes that have to share the batches. Raises
    ``UserError`` where a branch is impossible, before any is written.
    """
    tracked = _tracked(trunk.path)
    config = _configured(trunk, tracked, overrides)
    _require_checkpoints(trunk, steps)
    beside = trunk.path if trunk.path.name == trunk.name else trunk.path.resolve()
    folder = output or beside.parent
    branches = []
    for step in sorted(set(steps)):
        updates = parse_decay(decay, step)
        run = RunDirectory(folder / f"{trunk.name}-at-{step}-decay-{updates}")
        if run.path.exists():
            raise UserError(
                f"{run.path}: exists already; train it with `convbert pretrain {run.argument}`, or "
                "remove it"
            )
        ours = branch_config(trunk.config_file, config, step, updates)
        checks.check(ours, Tokenizer.load(ours.data.tokenizer).digest, world)
        branches.append(Branch(run, ours, _origin(trunk, tracked, ours, step, updates)))
    for branch in branches:
        _write(trunk, branch)
    return branches


def _require_checkpoints(trunk: RunDirectory, steps: Sequence[int]) -> None:
    present = checkpoint_steps(trunk.checkpoints)
    for step in steps:
        if step not in present:
            there = ", ".join(map(str, present)) or "none"
            raise AbsentError(
                f"{trunk.checkpoints}: no checkpoint of step {step}; there are: {there} "
                "(checkpoint.keep_every=N keeps those of every N updates)"
            )


def _tracked(run_dir: Path) -> RunState | None:
    """Return the state of the trunk's MLflow run, None where it was never tracked."""
    return TrackedRun.load(run_dir).state if (run_dir / RUN_FILE).exists() else None


def _configured(
    trunk: RunDirectory, tracked: RunState | None, overrides: Sequence[str]
) -> RunConfig:
    """Return the trunk's configuration with ``overrides``, tracked where the trunk is."""
    config = trunk.open()
    place = []
    if tracked and tracked.tracking_uri.startswith(SQLITE) and config.tracking.uri != OFF:
        # The default is a database beside the run, and branches may lie elsewhere.
        place = [f"tracking.uri={tracked.tracking_uri}"]
    changed = resolve(str(trunk.path), [*place, *overrides]).absolute()
    refused = [d for d in differences(config, changed) if not d.startswith("schedule.final_ratio:")]
    if refused:
        raise UserError(
            f"{refused[0]}: a branch continues its trunk; only schedule.final_ratio and settings "
            "of execution (checkpoint, evaluation, tracking, micro_batch, ...) may differ"
        )
    return changed


def _origin(
    trunk: RunDirectory, tracked: RunState | None, config: RunConfig, step: int, decay: int
) -> Origin:
    timeline = Timeline.load(config)
    before = read_origin(trunk.path)  # the first checkpoint of a branch is one of its trunk
    manifest = checkpoint_directory(trunk.checkpoints, step) / MANIFEST
    with reading(manifest):
        digest = file_sha256(manifest)
    return Origin(
        trunk=before.trunk if before else trunk.name,
        path=before.path if before else trunk.path.resolve(),
        key=before.key if before else tracked and tracked.key,
        step=step,
        decay=decay,
        flops=timeline.flops(step),
        end_flops=timeline.flops(step + decay),
        hours=before.hours if before else _hours(trunk.path / metrics_log.FILE_NAME, step),
        manifest=digest,
    )


def _hours(log: Path, step: int) -> float | None:
    """Return the process hours of the first ``step`` updates, None where they are not recorded."""
    if not log.is_file():
        return None
    records = metrics_log.read_records(log)
    hours = process_hours([r for r in records if isinstance(r, StepRecord) and r.step <= step])
    return hours[-1] if hours else None


def _write(trunk: RunDirectory, branch: Branch) -> None:
    step = branch.origin.step
    with atomic_directory(branch.run.path) as folder:
        run = RunDirectory(folder)
        run.prepare(branch.config, trunk.recipe, branch.run.path)
        copy = checkpoint_directory(run.checkpoints, step)
        _take(checkpoint_directory(trunk.checkpoints, step), copy)
        if file_sha256(copy / MANIFEST) != branch.origin.manifest:
            raise UserError(f"{trunk.path}: the checkpoint of step {step} changed; try again")
        verify(copy)
        if trunk.damage.is_dir():  # which blocks of the data the trunk replaced
            shutil.copytree(trunk.damage, run.damage)
        with atomic_write(folder / FILE_NAME) as file:
            file.write(branch.origin.model_dump_json(indent=1).encode() + b"\n")


def _take(checkpoint: Path, copy: Path) -> None:
    """Link the files of a checkpoint, which never change, or copy them to another file system."""
    copy.mkdir()
    try:
        for file in sorted(checkpoint.iterdir()):
            try:
                os.link(file, copy / file.name)
            except FileNotFoundError:
                raise
            except OSError:  # another file system, or one without links
                shutil.copyfile(file, copy / file.name)
    except FileNotFoundError:
        raise AbsentError(
            f"{checkpoint}: was deleted meanwhile by the run's training; set checkpoint.keep_every "
            "there, and choose a step that stays"
        ) from None
