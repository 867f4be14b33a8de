"""The batches of a run, phase after phase."""

from collections.abc import Iterator
from itertools import islice

from convbert.data_pipeline.loading.batch import Batch
from convbert.data_pipeline.loading.loader import ShardLoader
from convbert.data_pipeline.shards.damage import DamageLog
from convbert.pretrain.run.timeline import Timeline


class PhasedLoader:
    """Batches of a run in order, each phase's from its own shards; like a ``ShardLoader``."""

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
            )
            for phase in timeline.phases
        }

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of update ``start`` and all that follow, read ahead by a thread."""
        self.close()
        *bounded, last = self._timeline.phases
        for phase in bounded:
            if start < phase.end:
                loader = self._loaders[phase.start]
                first = max(start, phase.start)
                yield from islice(loader.iterate(first - phase.start), phase.end - first)
                loader.close()
        yield from self._loaders[last.start].iterate(max(start, last.start) - last.start)

    def close(self) -> None:
        """Stop reading ahead and close the files."""
        for loader in self._loaders.values():
            loader.close()
