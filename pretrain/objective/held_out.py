"""The pretraining objective on held-out text: the same sequences with the same masks every time.

Sequences, masked tokens and samples depend on the manifest alone, not on the run, its step or the
number of processes; a mask rate and a temperature that move during a run are the final ones here.
So values can be compared between checkpoints, and between runs with the same vocabulary.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from convbert.data_pipeline.loading.loader import ShardLoader
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.objective.losses import STATISTICS, Normalizers, summarize
from convbert.pretrain.objective.masking import MaskedBatch, SpecialIds, mask_batch
from convbert.pretrain.run import metric_names
from convbert.pretrain.settings.evaluation import EvaluationConfig
from convbert.pretrain.settings.objective import MaskingConfig

_SEED = 0

Forward = Callable[[MaskedBatch, Normalizers], tuple[Tensor, Tensor]]
"""An objective: loss and the sums named in ``STATISTICS``."""


class HeldOut:
    """The held-out sequences of a configuration whose ``held_out`` is set.

    Raises ``UserError`` for shards that are missing, smaller than one batch, or built by another
    tokenizer.
    """

    def __init__(
        self, config: EvaluationConfig, masking: MaskingConfig, tokenizer: Tokenizer
    ) -> None:
        assert config.held_out is not None
        self._loader = ShardLoader(
            config.held_out,
            global_batch=config.batch,
            seed=_SEED,
            tokenizer_digest=tokenizer.digest,
        )
        self._masking = masking
        self._special = SpecialIds(
            tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id
        )
        present = self._loader.corpus.manifests[0].num_sequences
        self._batches = max(1, min(config.sequences, present) // config.batch)
        self.sequences = self._batches * config.batch

    def measure(
        self, objective: nn.Module, report: Callable[[float], None] = lambda share: None
    ) -> dict[str, float]:
        """Return loss and accuracies of an objective on this process's device alone.

        ``report`` is called with the share of the work that each batch was.
        """

        def counted() -> Iterator[int]:
            for number in range(self._batches):
                yield number
                report(1 / self._batches)

        return _named(self._sums(objective, objective, counted()))

    def measure_together(self, forward: Forward, objective: nn.Module) -> dict[str, float]:
        """Return the same values on all processes, each of which measures its part of the batches.

        ``forward`` runs ``objective`` through its engine. Every process makes the same number of
        calls, as partitioned parameters need.
        """
        rank, world = dist.get_rank(), dist.get_world_size()
        rounds = -(-self._batches // world)
        mine = [rank + number * world for number in range(rounds)]
        sums = self._sums(forward, objective, mine)
        dist.all_reduce(sums)
        return _named(sums)

    @torch.no_grad()
    def _sums(self, forward: Forward, objective: nn.Module, numbers: Iterable[int]) -> Tensor:
        """Return the summed statistics of the given batches; those beyond the last add nothing."""
        device = next(objective.parameters()).device
        total = torch.zeros(len(STATISTICS), dtype=torch.float64, device=device)
        one = torch.ones((), device=device)
        training = objective.training
        objective.eval()
        for number in numbers:
            batch = self._loader.batch(number % self._batches).to(device)
            masked = mask_batch(self._masking, self._special, _SEED, batch)
            _, statistics = forward(masked, Normalizers(slots=one, tokens=one))
            if number < self._batches:
                total += statistics
        objective.train(training)
        return total


def _named(sums: Tensor) -> dict[str, float]:
    values = summarize(dict(zip(STATISTICS, sums.tolist(), strict=True)))
    return {metric_names.held_out(name): value for name, value in values.items()}
