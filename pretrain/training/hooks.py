"""The points of an update at which something from outside may look on or interfere.

Tests of faults pass a subclass to ``worker.main``; a run has the methods below, which do nothing.
"""

from torch import Tensor, nn

from convbert.data_pipeline.loading.batch import Batch


class Hooks:
    """Called by the trainer of every process."""

    def before_update(self, step: int, number: int, batch: Batch) -> None:
        """Called when update ``step``, from 0, has global batch ``number`` in its hands."""

    def loss(self, number: int, loss: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and statistics of a micro-batch of global batch ``number``."""
        return loss, statistics

    def after_update(self, step: int, objective: nn.Module) -> None:
        """Called when ``step`` updates are finished, before anything is made of the newest."""
