"""Join the other processes of a run, with DeepSpeed told what this machine is."""

import logging
import os
from datetime import timedelta
from typing import Any

import torch

from convbert.pretrain.engine.imports import import_deepspeed
from convbert.pretrain.run.store import host_store

_HOSTED: list[Any] = []  # the store lives as long as the process that serves it


def init_distributed(hang_seconds: float | None = None, backend: str | None = None) -> torch.device:
    """Join the process group described by the environment (torchrun or SLURM ranks).

    The ``backend`` is NCCL on GPUs and gloo elsewhere, unless another is given: NCCL refuses two
    processes on one GPU, gloo does not. Returns the device of this process. A single process
    without such an environment forms a group of its own. Collectives wait twice ``hang_seconds``,
    so that the watchdog, which knows who is late, comes before NCCL, which would end the processes
    that wait after ten minutes.
    """
    for key, value in {
        "RANK": "0",
        "WORLD_SIZE": "1",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "0",
    }.items():
        os.environ.setdefault(key, value)
    deepspeed = import_deepspeed()
    # Its progress notes go to stdout; importing it resets the level.
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # The shared-memory reduction is compiled on first use, takes all processes to be on one
    # node, and gloo is fast enough for what a CPU can train.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not torch.cuda.is_available():
        # PyTorch computes in fp16 on every CPU, slowly without instructions for it.
        deepspeed.accelerator.get_accelerator().is_fp16_supported = lambda: True
    backend = backend or ("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    _HOSTED.append(host_store())
    patience = None if hang_seconds is None else timedelta(seconds=2 * hang_seconds)
    torch.distributed.init_process_group(backend, timeout=patience)
    deepspeed.init_distributed(dist_backend=backend, dist_init_required=False, verbose=False)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
