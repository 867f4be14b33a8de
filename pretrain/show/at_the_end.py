"""The page of fillings and verdicts that a run makes when it ends."""

import logging

import torch

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.exchange.run_models import RunModels
from convbert.pretrain.run.checkpoint_manifest import checkpoint_steps
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.show.look import Options
from convbert.pretrain.show.page import spread, write_page
from convbert.pretrain.show.samples import samples_of
from convbert.pretrain.show.series import show_run
from convbert.pretrain.tracking.tracker import add_to_run

MOST_POINTS = 12
"""Checkpoints on that page: a job that is finished should give its nodes back soon."""

log = logging.getLogger(__name__)


def show_at_the_end(run: RunDirectory, config: RunConfig) -> None:
    """Write ``report/show/show.html`` of a finished run and log it as an artifact.

    It is computed on the CPU, after the run has ended in MLflow. The run is complete without the
    page, so whatever goes wrong is a warning.
    """
    if config.evaluation.show == ():
        return
    try:
        samples = samples_of(config, Tokenizer.load(config.data.tokenizer))
        if not samples:
            log.warning("no page of fillings: the shards give no sentence; set evaluation.show")
            return
        log.info("looks at the checkpoints, for the page in %s", run.report / "show")
        steps = spread(checkpoint_steps(run.checkpoints), MOST_POINTS)
        series = show_run(RunModels(run, steps), samples, Options(), torch.device("cpu"))
        path = write_page(series, run.report / "show" / "show.html")
        tracker = add_to_run(
            run.path,
            experiment=config.tracking.experiment,
            run_name=run.name,
            tracking_uri=config.tracking.uri,
        )
        tracker.artifact(path)
        tracker.close("FINISHED")
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        log.warning("no page of fillings (%s); `convbert show %s` makes it", reason, run.path)
