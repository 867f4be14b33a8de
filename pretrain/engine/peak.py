"""The arithmetic rate of a device, from its data sheet or measured now."""

import time

import torch

from convbert.pretrain.engine.gpus import known_peak

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def peak_flops(device: torch.device, precision: str, configured: float | None) -> float:
    """Return the FLOP/s that one process can reach at most, for the model FLOPs utilization.

    That is the configured figure, the data sheet's for a known GPU in a 16-bit precision, or else
    the best of a few matrix products in the run's precision on this device, timed now.
    """
    if configured is not None:
        return configured
    if device.type == "cuda" and precision != "fp32":
        known = known_peak(torch.cuda.get_device_name(device))
        if known is not None:
            return known
    return _measure(device, _DTYPES[precision])


def _measure(device: torch.device, dtype: torch.dtype) -> float:
    size = 4096 if device.type == "cuda" else 512
    left = torch.randn(size, size, device=device).to(dtype)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        product = left @ left
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best
