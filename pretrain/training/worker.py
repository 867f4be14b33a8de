"""One training process: ``python -m convbert.pretrain.training.worker RUN_DIR``.

Rank and world size come from the environment variables every launcher sets (RANK, WORLD_SIZE,
LOCAL_RANK, MASTER_ADDR, MASTER_PORT). Exit statuses are those of ``run/exit_codes.py``.
"""

import ctypes
import errno
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from convbert.models.errors import TransientError, UserError
from convbert.pretrain.run import log as run_log
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.environment import hardware
from convbert.pretrain.run.exit_codes import FAILED, FINISHED, STOPPED, TRANSIENT, USER_ERROR
from convbert.pretrain.settings.places import beside
from convbert.pretrain.training.launch import LAUNCHER
from convbert.pretrain.training.stopping import StopRequest

if TYPE_CHECKING:
    from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
    from convbert.pretrain.report.live import PageWriter, State
    from convbert.pretrain.run.claim import Claim
    from convbert.pretrain.tracking.tracker import Tracker
    from convbert.pretrain.training.hooks import Hooks
    from convbert.pretrain.training.loader import PhasedLoader
    from convbert.pretrain.training.progress import Progress
    from convbert.pretrain.training.trainer import Trainer

_SET_PARENT_DEATH_SIGNAL = 1
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)
"""Full, read-only or failing: the same start may succeed later."""

_ENDED: "dict[str, State]" = {"FINISHED": "finished", "KILLED": "stopped", "FAILED": "failed"}

log = logging.getLogger("convbert.pretrain.training.worker")  # it is run as __main__, too


def train(path: Path, stop: StopRequest, hooks: "Hooks | None" = None) -> bool:
    """Run this process's part of the run at ``path``; return False if it was asked to stop."""
    import torch

    from convbert.data_pipeline.shards.damage import DamageLog
    from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
    from convbert.pretrain.engine import execution, precision
    from convbert.pretrain.engine.imports import spare_compiler
    from convbert.pretrain.engine.peak import peak_flops
    from convbert.pretrain.engine.process_group import init_distributed
    from convbert.pretrain.run.claim import claim_for_training
    from convbert.pretrain.run.timeline import Timeline
    from convbert.pretrain.show.at_the_end import show_at_the_end
    from convbert.pretrain.training.loader import PhasedLoader
    from convbert.pretrain.training.progress import Progress
    from convbert.pretrain.training.trainer import Trainer

    run = RunDirectory(path)
    config = run.open()
    if config.compile is not True:  # where it is decided later, who compiles loads it then
        spare_compiler()
    if config.threads:
        torch.set_num_threads(config.threads)
    # Before anything in the directory is touched: another process may be writing a checkpoint.
    claim = claim_for_training(path) if os.environ.get("RANK", "0") == "0" else None
    device = init_distributed(config.guards.hang_seconds)
    config = precision.settle(config, device)
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    tokenizer = Tokenizer.load(config.data.tokenizer)
    timeline = Timeline.load(config)
    networks = config.model.build(timeline.corpora[0].vocab_size)
    rate = peak_flops(device, config.precision, config.peak_tflops and config.peak_tflops * 1e12)
    work = execution.work_left(config, networks, timeline, run.last_step(), world, rate)
    config = execution.settle(config, device, networks, work, run.execution)
    loader = PhasedLoader(
        timeline,
        rank=rank,
        world_size=world,
        tokenizer_digest=tokenizer.digest,
        damage=DamageLog(run.damage),
    )
    trainer = Trainer(run, config, tokenizer, timeline, hooks)
    start = trainer.resume()
    tracker = _tracker(trainer, tokenizer, start, claim)
    page = None
    status: str = "FAILED"
    title = f"{run.name}, {config.precision} on {world} x {hardware()}, {config.deepspeed}"
    try:
        if rank == 0:
            _write_facts(trainer)
            page = _page(trainer)
        with Progress(title, config.steps, start, enabled=rank == 0) as progress:
            finished = _fit(trainer, loader, tracker, progress, stop)
        status = "FINISHED" if finished else "KILLED"
        if tracker.problem is not None:
            status = "FAILED"
            raise TransientError(
                f"{tracker.problem}; update {trainer.step} is in a checkpoint, only lines of "
                "metrics may be missing; free space, then start the run again to continue"
            )
    finally:
        loader.close()
        if page is not None:
            from convbert.pretrain.report.live import page_of

            page.close(_ENDED[status])
            if page_of(run).is_file():
                tracker.artifact(page_of(run))
        tracker.close(status)  # type: ignore[arg-type]
    torch.distributed.destroy_process_group()
    if finished and rank == 0:
        show_at_the_end(run, config)
    return finished


def _write_facts(trainer: "Trainer") -> None:
    """Write down what only a process that trains knows; without that pages have gaps."""
    from torch import distributed as dist

    from convbert.pretrain.training import description

    run, config, world = trainer.run, trainer.config, dist.get_world_size()
    facts = description.facts(config, trainer.networks, trainer.timeline, world)
    try:
        facts.write(run.path)
    except (OSError, UserError) as error:
        log.warning("the facts of the run are not written (%s)", error)


def _page(trainer: "Trainer") -> "PageWriter | None":
    """Start to write the page of the run, and say where it is."""
    from convbert.pretrain.report.live import PageWriter, page_of

    run, seconds = trainer.run, trainer.config.tracking.page_seconds
    if seconds is None:
        return None
    log.info("the page of the run: %s, or `convbert watch %s`", page_of(run), run.path)
    return PageWriter(run, seconds)


def _fit(
    trainer: "Trainer",
    loader: "PhasedLoader",
    tracker: "Tracker",
    progress: "Progress",
    stop: StopRequest,
) -> bool:
    """Train; where metrics could not be written and no checkpoint either, say both."""
    try:
        return trainer.fit(loader, tracker, progress, stop)
    except UserError as error:
        if tracker.problem is None:
            raise
        raise TransientError(f"{tracker.problem}; {error}") from None


def _tracker(
    trainer: "Trainer", tokenizer: "Tokenizer", start: int, claim: "Claim | None"
) -> "Tracker":
    """Open the tracker of a run that goes on from update ``start``; only process 0 has one."""
    from torch import distributed as dist

    from convbert.pretrain.tracking.tracker import Tracker, open_tracker
    from convbert.pretrain.training import description

    run, config, world = trainer.run, trainer.config, dist.get_world_size()
    if dist.get_rank() != 0:
        return Tracker(run.path)
    # As configured: what a machine decides of it changes where the run goes on, so it is a tag.
    # And as stored: where a run lies is no parameter, which MLflow would never change.
    stored = run.open().placed(beside(run.path))
    params, settings = description.compared(stored, trainer.networks, trainer.timeline)
    tracker = open_tracker(
        run.path,
        enabled=True,
        experiment=config.tracking.experiment,
        run_name=description.run_name(run, config),
        tracking_uri=config.tracking.uri,
        params=params,
        settings=settings,
        tags=description.tags(run, config, trainer.timeline, tokenizer.digest, world),
        resume_step=start,
        inputs=description.data_inputs(trainer.timeline),
        sample_seconds=config.tracking.system_seconds,
        claim=claim,
    )
    for path in (run.config_file, run.environment, run.execution):
        if path.is_file():
            tracker.artifact(path)
    return tracker


def main(hooks: "Hooks | None" = None) -> int:
    """Train and translate the outcome into an exit status."""
    if sys.platform == "linux":  # no orphan may keep a GPU when the launcher is killed
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    launcher = os.environ.pop(LAUNCHER, None)
    if launcher is not None and os.getppid() != int(launcher):  # it was killed before that
        return FAILED
    run_log.for_training(int(os.environ.get("RANK", "0")))
    try:
        # From the start: a signal during the imports must not end the process either.
        with StopRequest() as stop:
            return FINISHED if train(Path(sys.argv[1]), stop, hooks) else STOPPED
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        log.error(
            "%s: %s; free space or mend that disk, then start the run again to continue from its "
            "last checkpoint",
            *(error.filename or "the run directory", error.strerror),
        )
        os._exit(TRANSIENT)
    except RuntimeError as error:
        from convbert.pretrain.engine.collectives import lost_peer

        lost = lost_peer(error)
        if lost is None:
            raise
        log.error(
            "the connection to another process is lost (%s), mostly because that has ended: its "
            "own messages, or srun's, say why; start the run again to continue from its last "
            "checkpoint",
            lost,
        )
        os._exit(FAILED)
    except UserError as error:
        log.error("%s", " ".join(str(error).split()))
        # The other processes may wait in a collective: leave without tearing the group down.
        os._exit(TRANSIENT if isinstance(error, TransientError) else USER_ERROR)


if __name__ == "__main__":
    sys.exit(main())
