"""A run's checkpoints as starting points of evaluations, and what is measured of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from convbert.models.pretraining import PretrainingModel, kept_encoder
from convbert.pretrain.exchange.run_models import BASELINE, RunModels, StartingPoint
from convbert.pretrain.finetune.device import compute_device
from convbert.pretrain.finetune.workers import InitialEncoder
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.tracking_uri import resolve_uri
from convbert.pretrain.tracking.tracker import Tracker, add_to_run

PointValues = tuple[StartingPoint, dict[str, float]]
"""A starting point, and the values of its measures by name."""


class EvaluatedRun(RunModels):
    """Chosen checkpoints of one run, and the same model before any training."""

    def __init__(self, run: RunDirectory, steps: Sequence[int] = (), average: int = 1) -> None:
        """Choose ``steps``; raises ``UserError`` before any work whose results had no place."""
        super().__init__(run, steps, average)
        run.require_writable()
        resolve_uri(run.path, self.config.tracking.uri)

    def task_name(self, task: str) -> str:
        """Return the name for a task's results, which is another one for averaged weights."""
        return task if self._average == 1 else f"{task}_average_{self._average}"

    def encoders(self) -> dict[str, InitialEncoder]:
        """Return what fine-tuning starts from: a shape for random weights, then the encoders."""
        encoders: dict[str, InitialEncoder] = {BASELINE: self.networks.discriminator}
        for point in self.points[1:]:
            encoders[point.label] = kept_encoder(self.trained(point.step))
        return encoders

    def models(self) -> Iterator[tuple[StartingPoint, PretrainingModel]]:
        """Yield the networks one by one on this process's device, the untrained ones first."""
        device = compute_device()
        yield self.points[0], self.untrained().to(device)
        for point in self.points[1:]:
            yield point, self.trained(point.step).to(device)

    @contextmanager
    def tracker(self) -> Iterator[Tracker]:
        """Add to what the run's training logged; after an error nothing is added."""
        tracker = add_to_run(
            self.run.path,
            experiment=self.config.tracking.experiment,
            run_name=self.run.name,
            tracking_uri=self.config.tracking.uri,
        )
        try:
            yield tracker
        except BaseException:
            tracker.close("FAILED")
            raise
        tracker.close("FINISHED")
