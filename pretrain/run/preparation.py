"""From a recipe to a run directory that can be trained: everything is checked, then written."""

import logging
from dataclasses import dataclass
from pathlib import Path

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.run import checks
from convbert.pretrain.run.claim import claim_for_training
from convbert.pretrain.run.data_order import DataOrder
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.identity import newest_manifest
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.run.tracking_uri import resolve_uri
from convbert.pretrain.settings.recipes import names_run, resolve
from convbert.pretrain.settings.run import RunConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """A run that may start or go on: nothing is written before ``write``."""

    run: RunDirectory
    config: RunConfig
    recipe: str | None

    def write(self) -> None:
        """Write the run directory, whose claim the caller holds; raises ``UserError``."""
        self.run.prepare(self.config, self.recipe)


def plan_run(recipe: str, overrides: list[str], run_dir: Path | None, world: int) -> Planned:
    """Resolve and check a configuration for ``world`` processes; raises ``UserError``.

    In the place of a recipe a run directory stands for its own configuration and continues itself,
    unless ``run_dir`` is another one.
    """
    name = RunDirectory(Path(recipe)).recipe if names_run(recipe) else Path(recipe).stem
    config = resolve(recipe, overrides).absolute()
    run = RunDirectory(run_dir or default_directory(recipe))
    timeline = checks.check(config, Tokenizer.load(config.data.tokenizer).digest, world)
    run.require(config)
    _require_data(run, timeline)
    resolve_uri(run.path, config.tracking.uri)  # refused here, not by the processes
    for remark in checks.remarks(config, timeline):
        log.warning("%s", remark)
    return Planned(run, config, name)


def _require_data(run: RunDirectory, timeline: Timeline) -> None:
    """Raise ``UserError`` for other data than what the newest checkpoint was trained on."""
    newest = newest_manifest(run.checkpoints)
    trained = newest and newest.trainer.get("data")
    if newest and trained:
        order = DataOrder(timeline.phases[0].global_batch, newest.trainer.get("skipped"))
        timeline.require_data(trained, order.number(newest.step))


def prepare(
    recipe: str, overrides: list[str], run_dir: Path | None, world: int
) -> tuple[RunDirectory, RunConfig]:
    """Do what ``plan_run`` does and write the run directory, for processes that start later.

    A directory that says the same already stays as it is; one that a process trains is refused.
    """
    planned = plan_run(recipe, overrides, run_dir, world)
    if not planned.run.is_written(planned.config):
        claim = claim_for_training(planned.run.path)
        try:
            planned.write()
        finally:
            claim.release()
    return planned.run, planned.config


def default_directory(recipe: str) -> Path:
    """Return the directory of a run that is given none."""
    return Path(recipe) if names_run(recipe) else Path("runs") / Path(recipe).stem
