"""DeepSpeed's JSON configuration: read by name, completed from the run.

The files in ``ds_configs`` are plain DeepSpeed configurations. What depends on the run is
``"auto"`` there and filled in here from the run configuration; nothing else is changed, so a
DeepSpeed user can read what runs.
"""

import json
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch

from convbert.models.errors import AbsentError, UserError

Precision = Literal["fp32", "bf16", "fp16"]


def load_deepspeed_config(name: str) -> dict[str, Any]:
    """Read a configuration by its name in ``ds_configs`` (``zero1``) or by its path."""
    path = Path(name)
    if path.suffix != ".json":
        folder = resources.files("convbert.ds_configs")
        path = Path(str(folder / f"{name}.json"))
        if not path.is_file():
            known = sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".json"))
            raise UserError(
                f"deepspeed: no configuration named '{name}'; choose one of {', '.join(known)} "
                "or give the path of a .json file"
            )
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise AbsentError(f"deepspeed: the file {path} does not exist") from None
    except json.JSONDecodeError as error:
        raise UserError(f"deepspeed: {path} is not valid JSON: {error}") from None


def resolve_deepspeed_config(
    template: dict[str, Any],
    *,
    precision: Precision,
    micro_batch: int,
    accumulation: int,
    clip: float,
) -> dict[str, Any]:
    """Fill every ``"auto"`` of a configuration; keys the file sets itself are kept."""
    values: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": clip,
        "bf16.enabled": precision == "bf16",
        "fp16.enabled": precision == "fp16",
        "data_types.grad_accum_dtype": "fp32",
        "zero_optimization.offload_optimizer.pin_memory": torch.cuda.is_available(),
        "zero_optimization.offload_param.pin_memory": torch.cuda.is_available(),
    }

    def fill(node: Any, prefix: str) -> Any:
        if isinstance(node, dict):
            return {k: fill(v, f"{prefix}.{k}" if prefix else k) for k, v in node.items()}
        if node == "auto":
            if prefix not in values:
                raise UserError(f"deepspeed: '{prefix}' cannot be 'auto'; give it a value")
            return values[prefix]
        return node

    return fill(template, "")


def require_graphs(config: dict[str, Any]) -> None:
    """Refuse CUDA graphs where gradients or parameters do not stay where the graph has them.

    In bf16 with ZeRO stage 1 DeepSpeed keeps parameters in place and adds each gradient to one of
    its own at once, after which the graph's memory is free for the next replay.
    """
    stage = config.get("zero_optimization", {}).get("stage", 0)
    if stage != 1 or not config.get("bf16", {}).get("enabled"):
        raise UserError(
            f"cuda_graphs=true: needs precision=bf16 and ZeRO stage 1, this is stage {stage}; "
            "choose deepspeed=zero1 or leave it out"
        )
