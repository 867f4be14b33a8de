"""The batches of a run, phase after phase."""

from collections.abc import Iterator

from convbert.data_pipeline.loading.batch import Batch
from convbert.data_pipeline.loading.loader import ShardLoader
from convbert.data_pipeline.shards.damage import DamageLog
from convbert.pretrain.run.data_order import DataOrder
from convbert.pretrain.run.timeline import Timeline


class PhasedLoader:
    """Batches of a run in order, each phase's from its own shards."""

    def __init__(
        self,
        timeline: Timeline,
        *,
        rank: int,
        world_size: int,
        tokenizer_digest: str,
        damage: DamageLog,
    ) -> None:
        self._timeline = timeline
        self._loaders = {
            phase.start: ShardLoader(
                phase.data.blend,
                global_batch=phase.global_batch,
                rank=rank,
                world_size=world_size,
                seed=phase.seed,
                tokenizer_digest=tokenizer_digest,
                on_damage=phase.data.on_damage,
                damage=damage,
                cache=phase.data.cache_settings,
                stage=phase.data.stage_here,
            )
            for phase in timeline.phases
        }

    def batches(self, order: DataOrder, step: int) -> Iterator[tuple[int, Batch]]:
        """Yield the global batches of update ``step`` and all that follow, with their numbers.

        A thread reads ahead. ``order`` leaves batches out, which changes no other batch.
        """
        self.close()
        *_, last = self._timeline.phases
        for phase in self._timeline.phases:
            if phase is not last and order.number(step) >= phase.end:
                continue
            loader = self._loaders[phase.start]
            first = max(order.number(step), phase.start)
            for number, batch in enumerate(loader.iterate(first - phase.start), start=first):
                if phase is not last and number >= phase.end:
                    break
                if number == order.number(step):
                    yield number, batch
                    step += 1
            loader.close()

    def close(self) -> None:
        """Stop reading ahead and close the files."""
        for loader in self._loaders.values():
            loader.close()
