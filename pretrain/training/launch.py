"""Start the training processes of a run on this machine and look after them.

torchrun would do the same but for two things: it kills workers 30 seconds after a stop signal,
which a large checkpoint may outlast, and it buries the error of a worker under its own.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from convbert.models.errors import UserError
from convbert.pretrain.run.claim import Claim
from convbert.pretrain.run.exit_codes import STOPPED, TRANSIENT, USER_ERROR
from convbert.pretrain.training.memory import MemoryWatch
from convbert.pretrain.training.stopping import SIGNALS, handle

GRACE_SECONDS = 5.0
LAUNCHER = "CONVBERT_LAUNCHER"
"""Variable with the number of the process without which a worker must not live."""
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA's, on Windows' Linux, AMD's

log = logging.getLogger(__name__)

Worker = subprocess.Popen[bytes]


def processes_here(wanted: int | None = None) -> int:
    """Return how many processes train on this machine: as wanted, else one per GPU, or one.

    Raises ``UserError`` for more than there are GPUs: each process computes on its own.
    """
    gpus = gpus_here()
    if wanted and gpus and wanted > gpus:
        raise UserError(
            f"--processes {wanted}: each takes a GPU of its own, and {gpus} "
            f"{'is' if gpus == 1 else 'are'} visible here; leave it out, or train on processors "
            "with CUDA_VISIBLE_DEVICES= before the command"
        )
    return wanted or gpus or 1


def gpus_here() -> int:
    """Return how many GPUs are visible."""
    # Loading torch takes seconds, for which a refusal would wait where there is nothing to count.
    if not any(Path(device).exists() for device in _GPU_DEVICES):
        return 0
    import torch

    return torch.cuda.device_count()


def launch(run_dir: Path, processes: int, threads: int | None, claim: Claim | None = None) -> int:
    """Run ``processes`` workers and return the first non-zero exit code, or 0.

    ``claim`` on the run directory is handed on to the first one, which otherwise takes its own.

    Stop signals are passed on and waited for as long as the workers need. When one worker fails,
    the others get a few seconds to fail by themselves before they are killed.
    """
    # The store lives here, on a port that the system picks, so runs on one machine cannot collide.
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    shared = {
        **os.environ,
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": _threads(threads, processes),
        LAUNCHER: str(os.getpid()),
    }
    command = [sys.executable, "-m", "convbert.pretrain.training.worker", str(run_dir)]
    workers = [
        subprocess.Popen(
            command,
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            | (claim.hand_on() if claim and rank == 0 else {}),
            pass_fds=claim.descriptors if claim and rank == 0 else (),
            # A session of their own: a Ctrl-C reaches them once, through this process.
            start_new_session=True,
        )
        for rank in range(processes)
    ]
    if claim is not None:
        claim.leave()

    def forward(number: int, frame: FrameType | None) -> None:
        for worker in workers:
            worker.send_signal(number)

    previous = {number: handle(number, forward) for number in SIGNALS}
    try:
        # Torch is loaded here while the workers load it; until then they wait for an answer.
        _store = _serve_store(listener, port)
        return _wait(workers)
    finally:
        for worker in workers:
            worker.kill()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _threads(wanted: int | None, processes: int) -> str:
    """Return what each process may use: as configured, as the environment says, or its share.

    The share is of the processors that this one may run on.
    """
    share = max(1, len(os.sched_getaffinity(0)) // processes)
    return str(wanted or os.environ.get("OMP_NUM_THREADS") or share)


def _serve_store(listener: socket.socket, port: int) -> object:
    """Serve torch's store on an open socket; it ends with the object that is returned."""
    from torch.distributed import TCPStore

    return TCPStore(
        "127.0.0.1",
        port,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )


def _wait(workers: Sequence[Worker]) -> int:
    """Wait for all; return the code of the first failure, 128 + n for a death by signal n.

    A process that stopped as asked is none: the others have their last upload to finish. One that
    the kernel killed cannot say so itself.
    """
    failed_at: float | None = None
    code = 0
    memory = MemoryWatch([worker.pid for worker in workers])
    while any(worker.poll() is None for worker in workers):
        memory.look()
        failure = next((w.returncode for w in workers if w.returncode not in (None, 0, STOPPED)), 0)
        if failure and failed_at is None:
            failed_at, code = time.monotonic(), failure
        if failed_at is not None and time.monotonic() - failed_at > GRACE_SECONDS:
            break
        time.sleep(0.05)
    code = code or next((w.returncode for w in workers if w.returncode), 0)
    if code == USER_ERROR and any(worker.returncode == TRANSIENT for worker in workers):
        code = TRANSIENT  # it knows more: what the others could not do may go well next time
    killed = [rank for rank, w in enumerate(workers) if w.returncode == -signal.SIGKILL]
    if code == -signal.SIGKILL:
        log.error("%s", memory.explain(killed))
    return code if code >= 0 else 128 - code
