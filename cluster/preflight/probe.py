"""``python -m convbert.cluster.preflight.probe LIMITS GPUS``: one process of the check.

It runs as a step of the job, one process per GPU; the first of a node examines and reports it. Each
node writes its report into ``RUN_DIR/slurm/preflight`` before the nodes connect, so a missing node
is known by name. A node
that gives the others up writes that into its report: this distinguishes a node that does not answer
from a check that was ended from outside. The clock of a process starts with it, and that of the
check when all have started. The process ends itself when its time is up; SIGUSR1, the script's wish
to stop, ends it too.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from convbert.cluster import rendezvous
from convbert.cluster.preflight.node import examine, node_name
from convbert.cluster.preflight.node_report import report_folder
from convbert.cluster.site import PreflightLimits
from convbert.models.errors import UserError
from convbert.pretrain.run.exit_codes import FAILED


def main(limits: PreflightLimits, gpus: int) -> None:
    """Measure and report; a node should have ``gpus`` GPUs."""
    # Loading torch takes seconds, which do not count.
    from convbert.cluster.preflight import together

    signal.alarm(limits.start_seconds + limits.seconds)
    run_dir = Path(os.environ["RUN_DIR"])
    local = int(os.environ["SLURM_LOCALID"])
    write = _reporter(run_dir, gpus) if local == 0 else _no_report
    write()
    begun = time.monotonic()
    # A thread looks at the clock, because NCCL may hang where Python cannot act.
    timer = _timer(limits.start_seconds, write)
    try:
        os.environ.update(rendezvous.environment(run_dir / "slurm", limits.start_seconds))
        with together.joined(local, limits.start_seconds):
            _end(timer)
            signal.alarm(limits.seconds)
            timer = _timer(limits.patience, write)
            measured = together.measure()
    except (RuntimeError, OSError, UserError) as error:
        _end(timer)
        write(waited=time.monotonic() - begun)
        print(f"preflight: {node_name()}: {str(error).splitlines()[0]}", flush=True)
        os._exit(FAILED)  # without cleaning up, which may wait for the other processes
    _end(timer)
    write(**measured)


def _reporter(run_dir: Path, gpus: int) -> Callable[..., None]:
    """Examine this node; return what writes its report, with the values given to it."""
    folder = report_folder(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    report = examine(run_dir, gpus)

    def write(**measured: float) -> None:
        report.model_copy(update=measured).write(folder)

    return write


def _no_report(**_: float) -> None:
    """Write nothing: another process of this node reports."""


def _timer(seconds: float, write: Callable[..., None]) -> threading.Timer:
    """Note after some seconds that the others were waited for in vain."""
    timer = threading.Timer(seconds, write, kwargs={"waited": float(seconds)})
    timer.daemon = True
    timer.start()
    return timer


def _end(timer: threading.Timer) -> None:
    """Make sure that the timer's thread writes nothing from here on."""
    timer.cancel()
    timer.join()


if __name__ == "__main__":
    main(PreflightLimits.model_validate_json(sys.argv[1]), int(sys.argv[2]))
