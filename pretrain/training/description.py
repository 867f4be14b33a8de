"""What MLflow and pages say of a run: name, parameters to compare it by, tags, data, facts."""

from pathlib import Path
from typing import Any

from convbert.models.architecture import PretrainingConfig
from convbert.models.counts import parameter_counts
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.environment import code_version, git_commit, hardware
from convbert.pretrain.run.facts import Facts, place, shards_of
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.settings.differences import deciding
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.tracking.tracked_run import DataInput

_ALWAYS = (
    *("model.preset", "steps", "global_batch", "seed", "optimizer.name"),
    *("optimizer.learning_rate", "schedule.name", "schedule.warmup_steps"),
)
"""Settings that are listed whatever their values; others where they are not the default."""
_PLACES = ("manifest", "tokenizer")
"""Last parts of keys that say where on this machine something lies that ``data`` names."""


def run_name(run: RunDirectory, config: RunConfig) -> str:
    """Return a name that tells runs apart whose directories are called the same."""
    rate = f"{config.optimizer.learning_rate:g}"
    size = f"{config.steps:,} x {config.global_batch:,}"
    return f"{run.name} ({config.model.preset}, {size}, lr {rate}, seed {config.seed})"


def compared(
    config: RunConfig, networks: PretrainingConfig, timeline: Timeline
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters that people compare runs by, and all that one may be taken from.

    The second holds every setting that decides results, by its dotted key.
    """
    settings = deciding(config)
    defaults = deciding(RunConfig())
    named = {
        "data": ", ".join(dict.fromkeys(entry.name for entry in data_inputs(timeline))),
        "sequence_length": timeline.phases[0].seq_len,
        "vocabulary": networks.discriminator.vocab_size,
        "objective": networks.objective,
        "parameters": parameter_counts(networks).encoder.total,
    }
    listed = {
        key: value
        for key, value in settings.items()
        if key in _ALWAYS or (value != defaults.get(key) and not key.endswith(_PLACES))
    }
    return named | listed, named | settings


def tags(
    run: RunDirectory, config: RunConfig, timeline: Timeline, tokenizer: str, world: int
) -> dict[str, str]:
    """Return what describes a run and may change while it goes on; ``tokenizer`` is a digest."""
    recipe = run.recipe or "unknown"
    commit = git_commit()
    return {
        "mlflow.source.name": f"convbert pretrain {recipe}",
        **({"mlflow.source.git.commit": commit} if commit else {}),
        "code": code_version(),
        "manifest": timeline.digest,
        "tokenizer": tokenizer,
        "recipe": recipe,
        "model": config.model.preset,
        "world_size": str(world),
        "hardware": f"{world} x {hardware()}",
        "precision": config.precision,
        "compile": str(config.compile),
    }


def facts(config: RunConfig, networks: PretrainingConfig, timeline: Timeline, world: int) -> Facts:
    """Return what pages say of a run that trains here on ``world`` processes."""
    counts = parameter_counts(networks)
    return Facts(
        **place(),
        parameters=counts.encoder.total,
        all_parameters=counts.total,
        data=shards_of(timeline),
        processes=world,
        hardware=hardware(),
        precision=config.precision,
        compile=config.compiles,
        deepspeed=config.deepspeed,
        code=code_version(),
    )


def data_inputs(timeline: Timeline) -> list[DataInput]:
    """Describe the shards of all phases as MLflow lists them."""
    return [
        DataInput(
            name=Path(source.manifest.removesuffix("/manifest.json")).name,
            digest=manifest.digest,
            source=source.manifest,
            context="training",
            profile={
                "sequences": manifest.num_sequences,
                "sequence_length": manifest.seq_len,
                "weight": source.weight,
                "tokenizer": manifest.tokenizer_digest,
            },
        )
        for corpus in timeline.corpora
        for source, manifest in zip(corpus.sources, corpus.manifests, strict=True)
    ]
