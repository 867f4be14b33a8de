"""One training process: ``python -m convbert.pretrain.training.worker RUN_DIR``.

Rank and world size come from the environment variables every launcher sets (RANK, WORLD_SIZE,
LOCAL_RANK, MASTER_ADDR, MASTER_PORT). Exit codes: 0 finished, 2 a user error, 75 stopped by a
signal with a checkpoint, so that starting again continues, 77 found hanging by the watchdog, 79 an
error that may pass by itself.
"""

import ctypes
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from convbert.models.errors import TransientError, UserError
from convbert.pretrain.run.directory import RunDirectory, code_version, hardware
from convbert.pretrain.run.exit_codes import FINISHED, STOPPED, TRANSIENT, USER_ERROR
from convbert.pretrain.training.stopping import StopRequest

if TYPE_CHECKING:
    from convbert.pretrain.run.timeline import Timeline
    from convbert.pretrain.tracking.tracked_run import DataInput

_SET_PARENT_DEATH_SIGNAL = 1


def train(path: Path, stop: StopRequest) -> bool:
    """Run this process's part of the run at ``path``; return False if it was asked to stop."""
    import torch

    from convbert.data_pipeline.shards.damage import DamageLog
    from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
    from convbert.pretrain.engine.precision import settle
    from convbert.pretrain.engine.process_group import init_distributed
    from convbert.pretrain.run.timeline import Timeline
    from convbert.pretrain.tracking.claim import claim_for_training
    from convbert.pretrain.tracking.tracker import open_tracker
    from convbert.pretrain.training.loader import PhasedLoader
    from convbert.pretrain.training.progress import Progress
    from convbert.pretrain.training.trainer import Trainer

    run = RunDirectory(path)
    config = run.open()
    if config.threads:
        torch.set_num_threads(config.threads)
    # Before anything in the directory is touched: another training may be writing a checkpoint.
    claim = claim_for_training(path) if os.environ.get("RANK", "0") == "0" else None
    config = settle(config, init_distributed(config.guards.hang_seconds))
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    tokenizer = Tokenizer.load(config.data.tokenizer)
    timeline = Timeline.load(config)
    loader = PhasedLoader(
        timeline,
        rank=rank,
        world_size=world,
        tokenizer_digest=tokenizer.digest,
        damage=DamageLog(run.damage),
    )
    trainer = Trainer(run, config, tokenizer, timeline)
    start = trainer.resume()
    tracker = open_tracker(
        run.path,
        enabled=rank == 0,
        experiment=config.tracking.experiment,
        run_name=run.name,
        tracking_uri=config.tracking.uri,
        params={"run": config.model_dump(mode="json"), "networks": trainer.networks.model_dump()},
        tags={
            "code": code_version(),
            "manifest": timeline.digest,
            "tokenizer": tokenizer.digest,
            "recipe": run.recipe or "unknown",
            "model": config.model.preset,
            "world_size": str(world),
            "hardware": f"{world} x {hardware()}",
        },
        resume_step=start,
        inputs=data_inputs(timeline),
        sample_seconds=config.tracking.system_seconds,
        claim=claim,
    )
    status: str = "FAILED"
    title = f"{run.name}, {config.precision} on {world} x {hardware()}, {config.deepspeed}"
    try:
        with Progress(title, config.steps, start, enabled=rank == 0) as progress:
            finished = trainer.fit(loader, tracker, progress, stop)
        status = "FINISHED" if finished else "KILLED"
    finally:
        loader.close()
        tracker.close(status)  # type: ignore[arg-type]
    torch.distributed.destroy_process_group()
    return finished


def data_inputs(timeline: "Timeline") -> "list[DataInput]":
    """Describe the shards of all phases as MLflow lists them."""
    from convbert.pretrain.tracking.tracked_run import DataInput

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


def main() -> int:
    """Train and translate the outcome into an exit code."""
    if sys.platform == "linux":  # no orphan may keep a GPU when the launcher is killed
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    # DeepSpeed still calls it by its old name, once per step.
    warnings.filterwarnings("ignore", message=".*all_gather_into_tensor.*")
    try:
        # From the start: a signal during the imports must not end the process either.
        with StopRequest() as stop:
            return FINISHED if train(Path(sys.argv[1]), stop) else STOPPED
    except UserError as error:
        rank = os.environ.get("RANK", "0")
        prefix = "" if rank == "0" else f"[rank {rank}] "
        print(f"error: {prefix}{error}", file=sys.stderr, flush=True)
        # The other processes may wait in a collective: leave without tearing the group down.
        os._exit(TRANSIENT if isinstance(error, TransientError) else USER_ERROR)


if __name__ == "__main__":
    sys.exit(main())
