"""What can be refused before a process is started: configuration against shards and processes."""

from dataclasses import dataclass

from convbert.models.errors import UserError
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.settings.run import RunConfig


@dataclass(frozen=True)
class Split:
    """How a global batch is divided: ``world`` processes, ``accumulation`` micro-batches each."""

    global_batch: int
    micro_batch: int
    accumulation: int
    world: int

    @classmethod
    def of(cls, global_batch: int, micro_batch: int | None, world: int) -> "Split":
        """Derive the division; raises ``UserError`` if the global batch cannot be divided."""
        if global_batch % world:
            raise UserError(
                f"global_batch={global_batch} cannot be divided over {world} processes; use a "
                "multiple"
            )
        share = global_batch // world
        micro = min(micro_batch or share, share)
        if share % micro:
            raise UserError(
                f"micro_batch={micro} does not divide the {share} sequences of each process; use "
                "a divisor"
            )
        return cls(global_batch, micro, share // micro, world)


def check(config: RunConfig, tokenizer_digest: str, world: int) -> None:
    """Refuse what cannot train before any process is started; raises ``UserError``."""
    timeline = Timeline.load(config)
    positions = config.model.build(timeline.corpora[0].vocab_size).discriminator.max_positions
    for phase, corpus in zip(timeline.phases, timeline.corpora, strict=True):
        if tokenizer_digest != corpus.tokenizer_digest:
            raise UserError(
                f"{config.data.tokenizer}: not the tokenizer that {corpus.name} was built "
                "with; give that one as data.tokenizer or rebuild the shards"
            )
        if corpus.seq_len > positions:
            raise UserError(
                f"{corpus.name}: sequences of {corpus.seq_len} tokens exceed the model's "
                f"{positions} positions; build shorter shards or set "
                f"model.overrides.max_positions={corpus.seq_len}"
            )
        corpus.require_batch(phase.global_batch)
        Split.of(phase.global_batch, phase.micro_batch, world)
