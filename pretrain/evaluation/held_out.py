"""The pretraining objective of every checkpoint on held-out text: ``convbert evaluate``."""

import logging
import re
from collections.abc import Callable
from pathlib import Path

from convbert.data_pipeline.shards.manifest import Manifest
from convbert.models.errors import UserError
from convbert.models.schema import validate
from convbert.pretrain.evaluation.evaluated_run import EvaluatedRun, PointValues
from convbert.pretrain.objective.held_out import HeldOut
from convbert.pretrain.objective.losses import build_objective
from convbert.pretrain.run.checks import trains_on
from convbert.pretrain.run.metric_names import HELD_OUT_PREFIX
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.settings.evaluation import EvaluationConfig
from convbert.pretrain.settings.run import RunConfig

log = logging.getLogger(__name__)


def measure_held_out(
    evaluated: EvaluatedRun,
    manifest: str | None,
    sequences: int | None,
    report: Callable[[float], None] = lambda share: None,
) -> tuple[int, list[PointValues]]:
    """Measure the losses and accuracies of every starting point, and log them with the run.

    ``manifest`` and ``sequences`` replace the run's own settings; ``report`` is called with shares
    of the work that a starting point is. Returns how many sequences were read, and the measures,
    whose names are others where the text is not the run's own. Raises ``UserError`` for a run
    without held-out text.
    """
    config, path = evaluated.config, evaluated.run.path
    given = {"held_out": manifest, "sequences": sequences}
    changes = {key: value for key, value in given.items() if value is not None}
    settings = validate(EvaluationConfig, config.evaluation.model_dump() | changes, path)
    if settings.held_out is None:
        raise UserError(f"{path}: has no evaluation.held_out; give --held-out MANIFEST")
    if _was_trained_on(config, settings.held_out):
        log.warning(
            "%s: %s was trained on these shards; what is measured on them says nothing about other "
            "text",
            settings.held_out,
            path,
        )
    text = HeldOut(settings, config.objective.masking, evaluated.tokenizer)
    prefix = HELD_OUT_PREFIX + other_text(config.evaluation.held_out, settings.held_out)
    found: list[PointValues] = []
    with evaluated.tracker() as tracker:
        for point, model in evaluated.models():
            measured = text.measure(build_objective(model, config.objective), report)
            values = {prefix + n.removeprefix(HELD_OUT_PREFIX): v for n, v in measured.items()}
            found.append((point, values))
            for name, value in values.items():
                tracker.curve_point(
                    point.flops, name, value, step=point.step, sequences=text.sequences
                )
    return text.sequences, found


def _was_trained_on(config: RunConfig, manifest: str) -> bool:
    try:
        return trains_on(Timeline.load(config), manifest)
    except UserError:  # the shards of the run are not here
        return False


def other_text(own: str | None, given: str) -> str:
    """Return ``NAME/`` for text that is not a run's own, else nothing.

    What training measured on the run's own text stays a curve without points of another text.
    """
    if own is None or own == given:
        return ""
    try:
        if Manifest.load(own).digest == Manifest.load(given).digest:
            return ""
    except UserError:  # the run's own is not there any more
        pass
    folder = Path(given.removesuffix("/manifest.json")).resolve().name
    return re.sub(r"[^\w .-]", "_", folder) + "/"
