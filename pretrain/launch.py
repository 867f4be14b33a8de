"""Start the training processes of a run on this machine, with torch's elastic launcher."""

import logging
import os
import signal
import sys
from pathlib import Path


def launch(run_dir: Path, processes: int, threads: int | None) -> int:
    """Run ``processes`` workers on this machine and return the first non-zero exit code, or 0.

    The rendezvous picks a free port, so several runs may share a machine. Workers inherit the
    terminal.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # A failed worker has said what is wrong; the launcher's own account would bury it.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ["OMP_NUM_THREADS"] = str(threads or max(1, (os.cpu_count() or 1) // processes))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        run_id=f"{run_dir.resolve().name}-{os.getpid()}",
        max_restarts=0,
        monitor_interval=0.2,
        start_method="spawn",
    )
    command = (sys.executable, "-m", "convbert.pretrain.worker", str(run_dir))
    try:
        elastic_launch(config, entrypoint=command[0])(*command[1:])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException as error:
        return 128 + int(signal.Signals(error.sigval))
    return 0
