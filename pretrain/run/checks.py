"""What can be refused before a process is started: configuration against shards and processes."""

import math

from convbert.data_pipeline.readers import input_files
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.models.architecture import ObjectiveName
from convbert.models.errors import UserError, choose_one
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.division import BatchDivision
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.settings.checkpoint import CheckpointConfig
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
    networks = config.model.build(timeline.corpora[0].vocab_size)
    if config.objective.generator_warmup and (networks.generator is None or networks.tie_encoders):
        raise UserError(
            f"objective.generator_warmup={config.objective.generator_warmup}: these networks have "
            "no generator of their own to warm up; leave it out"
        )
    require_tokenizer(
        config, tokenizer_digest, timeline, "give that one as data.tokenizer or rebuild the shards"
    )
    encoder = networks.discriminator
    positions = encoder.max_positions
    for phase, corpus in zip(timeline.phases, timeline.corpora, strict=True):
        if corpus.seq_len > positions:
            raise UserError(
                f"{corpus.name}: sequences of {corpus.seq_len} tokens exceed the model's "
                f"{positions} positions; build shorter shards or set "
                f"model.overrides.max_positions={corpus.seq_len}"
            )
        if corpus.packing == "electra" and encoder.type_vocab_size < 2:
            raise UserError(
                f"{corpus.name}: its rows hold two segments, the model has "
                f"{encoder.type_vocab_size} token type; leave model.overrides.type_vocab_size out "
                "or build shards with --packing full"
            )
        corpus.require_batch(phase.global_batch)
        BatchDivision.of(phase.global_batch, phase.micro_batch, world)
    _check_best(config.checkpoint, networks.objective)
    if config.evaluation.pairs is not None:
        input_files(config.evaluation.pairs.inputs)
    return timeline


def remarks(config: RunConfig, timeline: Timeline) -> list[str]:
    """List what a run may do and its user can hardly want, a sentence each.

    Raises ``UserError`` for held-out text that cannot be read.
    """
    said: list[str] = []
    held_out, saved = config.evaluation.held_out, config.checkpoint
    if held_out is not None and trains_on(timeline, held_out):
        said.append(
            f"evaluation.held_out={held_out}: the run trains on these shards, so what is measured "
            "on them says nothing about other text; build shards of text that is left out"
        )
    if saved.keep_every and saved.keep_every % saved.every:
        common = math.lcm(saved.keep_every, saved.every)
        said.append(
            f"checkpoint.keep_every={saved.keep_every} is no multiple of checkpoint.every="
            f"{saved.every}: only checkpoints of every {common} updates are kept for good"
        )
    return said


def trains_on(timeline: Timeline, manifest: str) -> bool:
    """Return whether a run reads the shards of a manifest; raises ``UserError`` without it."""
    digest = Manifest.load(manifest).digest
    return any(m.digest == digest for corpus in timeline.corpora for m in corpus.manifests)


def require_tokenizer(config: RunConfig, digest: str, timeline: Timeline, remedy: str) -> None:
    """Raise ``UserError`` unless a tokenizer is the one that all shards of a run were built with.

    Another one gives ids that the networks know as other words.
    """
    for corpus in timeline.corpora:
        if digest != corpus.tokenizer_digest:
            raise UserError(
                f"{config.data.tokenizer}: not the tokenizer that {corpus.name} was built with; "
                f"{remedy}"
            )


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


def _check_best(config: CheckpointConfig, objective: ObjectiveName) -> None:
    """Refuse to keep the best checkpoints by something that is not measured."""
    known = metric_names.of_updates(objective)
    if config.best_metric not in known:
        raise UserError(
            f"checkpoint.best_metric={config.best_metric}: no update measures that; "
            f"{choose_one(config.best_metric, known)}"
        )
