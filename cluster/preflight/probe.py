"""``python -m convbert.cluster.preflight.probe LIMITS GPUS``: one process of the check.

Runs as a step of the job, one process per GPU. Each node's report lies in
``RUN_DIR/slurm/preflight`` before the nodes look for each other, so that one which does not come is
known by name. One that waits for the others in vain says so in its report: that, and not silence,
tells a node which does not answer from a check that somebody ended. The process ends itself when
its time is up.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from convbert.cluster import rendezvous
from convbert.cluster.preflight.node import examine
from convbert.cluster.preflight.report import NodeReport
from convbert.cluster.preflight.verdict import report_folder
from convbert.cluster.site import PreflightLimits


def main(limits: PreflightLimits, gpus: int) -> None:
    """Measure and report; a node should have ``gpus`` GPUs."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the job script remembers the request
    # Not above: torch takes its time to load, which neither signals nor the limit should wait for.
    from convbert.cluster.preflight import together

    signal.alarm(limits.seconds)
    run_dir = Path(os.environ["RUN_DIR"])
    folder = report_folder(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    local = int(os.environ["SLURM_LOCALID"])
    report = examine(run_dir, gpus)
    waiting = _Waiting(report, folder if local == 0 else None, limits.patience)
    try:
        os.environ.update(rendezvous.environment(run_dir / "slurm", limits.patience))
        together.measure(report, local, limits.patience)
    except (RuntimeError, OSError) as error:
        waiting.in_vain()
        print(f"preflight: {report.node}: {str(error).splitlines()[0]}", flush=True)
        os._exit(1)  # the other processes may be stuck: nothing to wait for
    waiting.done()
    if local == 0:
        report.write(folder)


class _Waiting:
    """Writes a node's report, and again with the time waited once the others are given up.

    A thread looks at the clock, because NCCL may hang where Python gets no chance to. Without a
    ``folder`` another process of the node does all that.
    """

    def __init__(self, report: NodeReport, folder: Path | None, patience: float) -> None:
        self._alone = report.model_copy()  # as long as the measurements are not complete
        self._folder = folder
        self._begun = time.monotonic()
        self._timer = threading.Timer(patience, self._note, (patience,))
        self._timer.daemon = True
        if folder is not None:
            report.write(folder)
            self._timer.start()

    def done(self) -> None:
        """Write nothing from here on."""
        self._timer.cancel()
        if self._folder is not None:
            self._timer.join()

    def in_vain(self) -> None:
        """Note that the others did not come, or left."""
        self.done()
        self._note(time.monotonic() - self._begun)

    def _note(self, seconds: float) -> None:
        if self._folder is not None:
            self._alone.model_copy(update={"waited": seconds}).write(self._folder)


if __name__ == "__main__":
    main(PreflightLimits.model_validate_json(sys.argv[1]), int(sys.argv[2]))
