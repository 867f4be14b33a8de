"""Choose the precision where the configuration says ``auto``."""

import torch
import torch.distributed as dist

from convbert.pretrain.settings.run import RunConfig


def settle(config: RunConfig, device: torch.device) -> RunConfig:
    """Replace ``precision: auto`` by one that the devices of all processes compute in.

    That is bf16 where each of them has instructions for it, else fp32: without them a matrix
    product in bf16 can take thirty times as long as in fp32. Every process has to call this.
    """
    if config.precision != "auto":
        return config
    everywhere = torch.tensor(float(computes_in_bfloat16(device)), device=device)
    dist.all_reduce(everywhere, op=dist.ReduceOp.MIN)
    return with_precision(config, bfloat16=bool(everywhere.item()))


def with_precision(config: RunConfig, *, bfloat16: bool) -> RunConfig:
    """Return the configuration with ``auto`` replaced by bf16 or fp32."""
    if config.precision != "auto":
        return config
    return config.model_copy(update={"precision": "bf16" if bfloat16 else "fp32"})


def computes_in_bfloat16(device: torch.device) -> bool:
    """Return whether the device has instructions for matrix products in bf16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # PyTorch has no public name for either.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)
