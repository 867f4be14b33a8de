"""What is measured at every checkpoint, on all processes together."""

import logging
from collections.abc import Callable

import torch.distributed as dist

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.pretrain.engine.collectives import broadcast_from_first
from convbert.pretrain.engine.engine import Engine
from convbert.pretrain.guards.watchdog import Activity
from convbert.pretrain.objective.held_out import HeldOut
from convbert.pretrain.pairs.gathering import gather
from convbert.pretrain.pairs.measure import EncodedPairs, Preference, measure
from convbert.pretrain.pairs.scores import Model, choose
from convbert.pretrain.run.metric_names import pairs_measure
from convbert.pretrain.settings.evaluation import PairsConfig
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.tracking.tracker import Tracker

log = logging.getLogger(__name__)


class CheckpointMeasures:
    """The measures that a configuration asks for; what they read is checked before training."""

    def __init__(self, config: RunConfig, tokenizer: Tokenizer, engine: Engine) -> None:
        """Read held-out text and pairs; raises ``UserError`` for what cannot be used."""
        self._engine = engine
        self._tokenizer = tokenizer
        settings = config.evaluation
        self._held_out = (
            HeldOut(settings, config.objective.masking, tokenizer) if settings.held_out else None
        )
        self._pairs: EncodedPairs | None = None
        # Under DeepSpeed, too, the parts of a model may be called one by one.
        self._model: Model = engine.module.model  # type: ignore[assignment]
        if settings.pairs is not None:
            wanted = (settings.pairs.score,) if settings.pairs.score else ()
            self._score = choose(self._model.config, wanted, "evaluation.pairs.score")[0]
            longest = config.model.build(tokenizer.vocab_size).discriminator.max_positions
            self._pairs = _encoded(settings.pairs, tokenizer, longest)

    def log(
        self, tracker: Tracker, step: int, flops: float, beginning: Callable[[Activity], None]
    ) -> None:
        """Measure the networks and log points of curves; ``beginning`` hears what is next."""
        if self._held_out is not None:
            beginning("held-out text")
            engine = self._engine
            values = self._held_out.measure_together(engine.evaluate, engine.module)
            for name, value in values.items():
                tracker.curve_point(flops, name, value, step=step)
        if self._pairs is not None:
            beginning("minimal pairs")
            for found in self._preferences(self._pairs):
                tracker.curve_point(
                    flops,
                    pairs_measure(found.kind, found.score),
                    found.accuracy,
                    step=step,
                    standard_error=found.standard_error,
                    pairs=found.pairs,
                )

    def _preferences(self, pairs: EncodedPairs) -> list[Preference]:
        return measure(
            self._model,
            pairs,
            self._tokenizer,
            self._score,
            per_token=False,
            together=True,
        )


def _encoded(settings: PairsConfig, tokenizer: Tokenizer, longest: int) -> EncodedPairs:
    """Return the pairs, which process 0 reads for all; raise its error on each of them."""
    found: EncodedPairs | UserError | None = None
    if dist.get_rank() == 0:
        try:
            made, notes = gather(settings)
            found = EncodedPairs(made, tokenizer, longest)
            for note in notes:
                log.warning("evaluation.pairs: %s", note)
        except UserError as error:
            found = error
    found = broadcast_from_first(found)
    if isinstance(found, UserError):
        raise found
    assert found is not None
    return found
