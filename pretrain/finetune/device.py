"""The device that fine-tuning and evaluation compute on: a GPU where there is one."""

import os

import torch

from convbert.pretrain.engine.precision import computes_in_bfloat16


def compute_device() -> torch.device:
    """Return the current GPU of this process, or the CPU where none is visible."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # What is measured in fp32 is meant to be: cuDNN's convolutions would round to TF32.
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", torch.cuda.current_device())


def default_workers() -> int:
    """Return how many processes compute side by side: one per visible GPU, else one per core."""
    return torch.cuda.device_count() or len(os.sched_getaffinity(0))


def visible_gpus() -> list[str]:
    """Name the GPUs that this process sees, as CUDA_VISIBLE_DEVICES takes them."""
    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[:count] if given else [str(number) for number in range(count)]


def training_autocast(device: torch.device) -> torch.autocast:
    """Return the context of a training step: products in bf16 on a GPU that has it, else fp32."""
    enabled = device.type == "cuda" and computes_in_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)
