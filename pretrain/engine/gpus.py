"""Accelerators and what their makers' data sheets promise: dense bf16 rate, memory and its rate."""

from dataclasses import dataclass

from convbert.models.errors import UserError, choose_one


@dataclass(frozen=True)
class Gpu:
    """``peak`` in FLOP/s without sparsity, ``memory`` in bytes; ``match`` is found in its name.

    ``bandwidth`` of the memory in bytes a second. Without ``bfloat16`` the peak is that of fp16.
    """

    peak: float
    memory: float
    match: str
    bandwidth: float
    bfloat16: bool = True


GPUS = {
    "b200": Gpu(2250e12, 180e9, "B200", 8.0e12),
    "h200": Gpu(989e12, 141e9, "H200", 4.8e12),
    "h100-pcie": Gpu(756e12, 80e9, "H100 PCIe", 2.0e12),
    "h100": Gpu(989e12, 80e9, "H100", 3.35e12),
    "a100": Gpu(312e12, 80e9, "A100", 2.04e12),
    "a100-40g": Gpu(312e12, 40e9, "A100-SXM4-40GB", 1.56e12),
    "l40s": Gpu(362e12, 48e9, "L40S", 0.86e12),
    "l4": Gpu(121e12, 24e9, "L4", 0.3e12),
    "a10": Gpu(125e12, 24e9, "A10", 0.6e12),
    "v100": Gpu(125e12, 32e9, "V100", 0.9e12, bfloat16=False),
    "t4": Gpu(65e12, 16e9, "T4", 0.32e12, bfloat16=False),
}


def gpu(name: str) -> Gpu:
    """Return an accelerator by its short name; raises ``UserError`` for an unknown one."""
    if name.lower() not in GPUS:
        raise UserError(f"gpu '{name}' is unknown; {choose_one(name, GPUS)}")
    return GPUS[name.lower()]


def known_peak(device_name: str) -> float | None:
    """Return the rate of the accelerator that calls itself ``device_name``, if it is listed."""
    return next((g.peak for g in GPUS.values() if g.match in device_name), None)
