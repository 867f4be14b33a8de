"""Accelerators and what their makers' data sheets promise: dense bf16 rate and memory."""

from dataclasses import dataclass

from convbert.models.errors import UserError


@dataclass(frozen=True)
class Gpu:
    """``peak`` in FLOP/s without sparsity, ``memory`` in bytes; ``match`` is found in its name.

    Without ``bfloat16`` the peak is that of fp16.
    """

    peak: float
    memory: float
    match: str
    bfloat16: bool = True


GPUS = {
    "b200": Gpu(2250e12, 180e9, "B200"),
    "h200": Gpu(989e12, 141e9, "H200"),
    "h100-pcie": Gpu(756e12, 80e9, "H100 PCIe"),
    "h100": Gpu(989e12, 80e9, "H100"),
    "a100": Gpu(312e12, 80e9, "A100"),
    "a100-40g": Gpu(312e12, 40e9, "A100-SXM4-40GB"),
    "l40s": Gpu(362e12, 48e9, "L40S"),
    "l4": Gpu(121e12, 24e9, "L4"),
    "a10": Gpu(125e12, 24e9, "A10"),
    "v100": Gpu(125e12, 32e9, "V100", bfloat16=False),
    "t4": Gpu(65e12, 16e9, "T4", bfloat16=False),
}


def gpu(name: str) -> Gpu:
    """Return an accelerator by its short name; raises ``UserError`` for an unknown one."""
    if name.lower() not in GPUS:
        raise UserError(f"gpu '{name}' is unknown; choose one of {', '.join(GPUS)}")
    return GPUS[name.lower()]


def known_peak(device_name: str) -> float | None:
    """Return the rate of the accelerator that calls itself ``device_name``, if it is listed."""
    return next((g.peak for g in GPUS.values() if g.match in device_name), None)
