"""What can be refused before a process is started: configuration against shards and processes."""

from convbert.data_pipeline.readers import input_files
from convbert.models.errors import UserError
from convbert.pretrain.run.division import BatchDivision
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.settings.run import RunConfig


def check(config: RunConfig, tokenizer_digest: str, world: int) -> None:
    """Refuse what cannot train before any process is started; raises ``UserError``."""
    timeline = Timeline.load(config)
    networks = config.model.build(timeline.corpora[0].vocab_size)
    positions = networks.discriminator.max_positions
    if config.objective.generator_warmup and (networks.generator is None or networks.tie_encoders):
        raise UserError(
            f"objective.generator_warmup={config.objective.generator_warmup}: these networks have "
            "no generator of their own to warm up; leave it out"
        )
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
