"""Points of an update at which a test may observe or interfere.

Fault tests pass a subclass to ``worker.main``. In a run the methods do nothing.
"""

from torch import Tensor, nn

from convbert.data_pipeline.loading.batch import Batch


class Hooks:
    """Methods that the trainer of every process calls."""

    def before_update(self, step: int, number: int, batch: Batch) -> None:
        """Called before update ``step`` (from 0) with this process's rows of batch ``number``."""

    def loss(self, number: int, loss: Tensor, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """Called after each forward pass on batch ``number``; return the values to go on with."""
        return loss, statistics

    def after_update(self, step: int, objective: nn.Module) -> None:
        """Called when ``step`` updates are finished, before they are reported or saved."""
