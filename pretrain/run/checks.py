"""What can be refused before a process is started: configuration against shards and processes."""

from convbert.data_pipeline.readers import input_files
from convbert.models.errors import UserError
from convbert.pretrain.run.division import BatchDivision
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.settings.deepspeed import (
    load_deepspeed_config,
    resolve_deepspeed_config,
)
from convbert.pretrain.settings.run import RunConfig


def check(config: RunConfig, tokenizer_digest: str, world: int) -> Timeline:
    """Refuse what cannot train before any process is started; raises ``UserError``.

    Returns the timeline, for what else depends on it.
    """
    timeline = Timeline.load(config)
    _require_deepspeed(config, timeline, world)
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
        BatchDivision.of(phase.global_batch, phase.micro_batch, world)
    if config.evaluation.pairs is not None:
        input_files(config.evaluation.pairs.inputs)
    return timeline


def _require_deepspeed(config: RunConfig, timeline: Timeline, world: int) -> None:
    """Refuse a DeepSpeed file that does not fit the run; its first phase decides the engine."""
    first = timeline.phases[0]
    division = BatchDivision.of(first.global_batch, first.micro_batch, world)
    resolve_deepspeed_config(
        load_deepspeed_config(config.deepspeed),
        precision=None if config.precision == "auto" else config.precision,
        micro_batch=division.micro_batch,
        accumulation=division.accumulation,
        clip=config.optimizer.clip,
        world=world,
        place=config.deepspeed,
    )
