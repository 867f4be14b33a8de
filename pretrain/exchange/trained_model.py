"""A checkpoint as networks in memory, in fp32 and without DeepSpeed."""

from collections.abc import Iterable

from convbert.data_pipeline.shards.sources import Corpus
from convbert.models.errors import AbsentError, DamagedError, UserError
from convbert.models.pretraining import PretrainingModel, build_model
from convbert.pretrain.checkpoints.reader import CheckpointReader
from convbert.pretrain.exchange.averaging import averaged
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_steps
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.identity import require_same_run


def require_steps(run: RunDirectory, steps: Iterable[int]) -> None:
    """Raise ``AbsentError`` for the first of the steps of which there is no checkpoint."""
    present = checkpoint_steps(run.checkpoints)
    for step in steps:
        if step not in present:
            known = ", ".join(map(str, present)) or "none"
            raise AbsentError(f"{run.checkpoints}: no checkpoint of step {step}; present: {known}")


def open_checkpoint(run: RunDirectory, step: int | None) -> CheckpointReader:
    """Open the checkpoint of ``step``, or the newest one; ``AbsentError`` without one.

    Raises ``DamagedError`` where it is damaged: nobody gets an older one without asking for it.
    """
    require_steps(run, [] if step is None else [step])
    present = checkpoint_steps(run.checkpoints)
    if not present:
        raise AbsentError(f"{run.checkpoints}: no checkpoint; train the run first")
    wanted = step or present[-1]
    try:
        return CheckpointReader(checkpoint_directory(run.checkpoints, wanted))
    except DamagedError as error:
        others = ", ".join(str(other) for other in present if other != wanted)
        ways = [f"`convbert pretrain {run.argument}` trains it again from the last good one"]
        ways += [f"choose another step ({others})"] if others else []
        raise DamagedError(f"{error}; {', or '.join(ways)}") from None


def load_model(
    run: RunDirectory, step: int | None = None, average: int = 1
) -> tuple[PretrainingModel, int]:
    """Rebuild the networks of a checkpoint in fp32; return them with their step.

    With ``average`` N the weights are the mean of that checkpoint and the N - 1 before it. Raises
    ``UserError`` where the checkpoint was trained with other settings than ``config.yaml`` says.
    """
    config = run.open()
    corpus = Corpus(config.data.blend)
    reader = open_checkpoint(run, step)
    require_same_run(str(reader.folder), reader.manifest, config, run.checkpoints)
    model = build_model(config.model.build(corpus.vocab_size))
    weights = {n.removeprefix("model."): t for n, t in averaged(run, reader, average).items()}
    ours = {n: p.shape for n, p in model.named_parameters()}
    theirs = {n: t.shape for n, t in weights.items()}
    if other := {n for n, _ in ours.items() ^ theirs.items()}:
        raise UserError(
            f"{reader.folder}: does not fit {run.config_file} at {min(other)}; restore that file"
        )
    model.load_state_dict(weights, strict=False)
    return model, reader.manifest.step
