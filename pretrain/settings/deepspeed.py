"""DeepSpeed's JSON configuration: read by name or path, checked, completed from the run.

The files in ``ds_configs`` are plain DeepSpeed configurations. What the run decides is ``"auto"``
there and filled in here, and so is what a file of the user's own leaves out: a missing
``gradient_accumulation_steps`` would train something else than ``config.yaml`` says. A file that
fixes another value is refused, and so is a key that changes what is trained.
"""

import json
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from convbert.models.errors import AbsentError, UserError
from convbert.models.faults import first_fault
from convbert.models.schema import StrictModel

Precision = Literal["fp32", "bf16", "fp16"]
_Count = Annotated[int, Field(ge=0)]
_Size = Annotated[int, Field(gt=0)]

_DECIDED = {
    "optimizer": "optimizer",
    "scheduler": "schedule",
    "amp": "precision",
    "torch_autocast": "precision",
    "activation_checkpointing": "activation_checkpointing",
    "checkpoint": "checkpoint",
    "curriculum_learning": "phases",
    "data_efficiency": "phases",
    "tensorboard": "tracking",
    "wandb": "tracking",
    "comet": "tracking",
    "csv_monitor": "tracking",
    "compile": "compile",
}
"""Sections of DeepSpeed in whose place a key of the run stands."""

_AUTO = {
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
    "bf16.enabled",
    "fp16.enabled",
    "data_types.grad_accum_dtype",
    "zero_optimization.offload_optimizer.pin_memory",
    "zero_optimization.offload_param.pin_memory",
}
"""Keys that may be "auto", which is the same as to leave them out."""

_FROM = {
    "train_batch_size": "global_batch",
    "train_micro_batch_size_per_gpu": "micro_batch",
    "gradient_accumulation_steps": "global_batch / (micro_batch x processes)",
    "gradient_clipping": "optimizer.clip",
    "bf16.enabled": "precision",
    "fp16.enabled": "precision",
}
"""What decides a value, by DeepSpeed's key."""


class _Bits(StrictModel):
    enabled: bool | None = None


class _Bf16(_Bits):
    immediate_grad_update: bool = True


class _Fp16(_Bits):
    loss_scale: Literal[0] = 0  # dynamic
    initial_scale_power: _Count = 16
    loss_scale_window: _Size = 1000
    hysteresis: _Size = 2
    consecutive_hysteresis: bool = False
    min_loss_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


class _Offload(StrictModel):
    device: Literal["cpu", "none"]
    pin_memory: bool | None = None
    buffer_count: _Size = 5
    buffer_size: _Size = 10**8
    max_in_cpu: _Count = 10**9
    fast_init: bool = False


class _Zero(StrictModel):
    stage: Literal[0, 1, 2, 3] = 0
    contiguous_gradients: bool = True
    reduce_scatter: bool = True
    reduce_bucket_size: _Size = 5 * 10**8
    allgather_partitions: bool = True
    allgather_bucket_size: _Size = 5 * 10**8
    use_multi_rank_bucket_allreduce: bool = True
    overlap_comm: bool | None = None
    round_robin_gradients: bool = False
    sub_group_size: _Size = 10**9
    offload_optimizer: _Offload | None = None
    offload_param: _Offload | None = None
    stage3_prefetch_bucket_size: _Count = 5 * 10**7
    stage3_param_persistence_threshold: _Count = 10**5
    stage3_model_persistence_threshold: _Count = 10**18
    stage3_max_live_parameters: _Count = 10**9
    stage3_max_reuse_distance: _Count = 10**9


class _DataTypes(StrictModel):
    grad_accum_dtype: Literal["fp32"] = "fp32"


class _File(StrictModel):
    """What a file may say: how the run is executed, and, redundantly, what the run decides."""

    train_batch_size: _Size | None = None
    train_micro_batch_size_per_gpu: _Size | None = None
    gradient_accumulation_steps: _Size | None = None
    gradient_clipping: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    zero_allow_untested_optimizer: Literal[True] = True
    zero_force_ds_cpu_optimizer: Literal[False] = False
    bf16: _Bf16 = _Bf16()
    fp16: _Fp16 = _Fp16()
    zero_optimization: _Zero = _Zero()
    data_types: _DataTypes = _DataTypes()
    communication_data_type: Literal["fp32", "bf16", "fp16"] | None = None
    steps_per_print: _Size | None = None
    wall_clock_breakdown: bool = False
    memory_breakdown: bool = False
    dump_state: bool = False


def load_deepspeed_config(name: str) -> dict[str, Any]:
    """Read a configuration by its name in ``ds_configs`` (``zero1``) or by its path.

    Raises ``UserError`` naming file, key and value for what is no DeepSpeed configuration or would
    change what is trained.
    """
    path = Path(name)
    if path.suffix != ".json":
        folder = resources.files("convbert.ds_configs")
        known = sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".json"))
        if name not in known:
            raise UserError(
                f"deepspeed: no configuration named '{name}'; choose one of {', '.join(known)} "
                "or give the path of a .json file"
            )
        path = Path(str(folder / f"{name}.json"))
    return _checked(path, _read(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except FileNotFoundError:
        raise AbsentError(f"deepspeed: the file {path} does not exist") from None
    except OSError as error:
        raise UserError(f"deepspeed: {path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # of JSON, of UTF-8, of numbers, of _unique
        raise UserError(f"deepspeed: {path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"deepspeed: {path} holds no JSON object with DeepSpeed's keys")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' is there twice")
    return found


def _checked(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return what the file says, without "auto" and with values of the right kinds."""
    place = f"deepspeed: {path}"
    for key in content:
        if key in _DECIDED:
            raise UserError(
                f"{place}: '{key}' is decided by the run ({_DECIDED[key]}); remove it from the "
                "file and set that"
            )
    try:
        checked = _File.model_validate(_without_auto(place, content))
    except ValidationError as error:
        raise UserError(f"{place}: {first_fault(error, _File)}") from None
    zero = checked.zero_optimization
    if zero.offload_optimizer and not zero.stage:
        raise UserError(f"{place}: zero_optimization.offload_optimizer needs stage 1, 2 or 3")
    if zero.offload_param and zero.stage != 3:
        raise UserError(f"{place}: zero_optimization.offload_param needs stage 3")
    return checked.model_dump(exclude_unset=True)


def _without_auto(place: str, node: Any, prefix: str = "") -> Any:
    if not isinstance(node, dict):
        return node
    kept = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        if value != "auto":
            kept[key] = _without_auto(place, value, f"{name}.")
        elif name not in _AUTO:
            raise UserError(f"{place}: '{name}' cannot be 'auto'; give it a value or leave it out")
    return kept


def resolve_deepspeed_config(
    template: dict[str, Any],
    *,
    precision: Precision | None,
    micro_batch: int,
    accumulation: int,
    clip: float,
    world: int = 1,
    pin_memory: bool = False,
    place: str = "the DeepSpeed configuration",
) -> dict[str, Any]:
    """Return ``template``, as ``load_deepspeed_config`` returned it, with all that the run decides.

    ``precision`` is None where it is not settled yet. Raises ``UserError`` naming ``place`` where
    the template fixes another value than the run's.
    """
    decided: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": clip,
    }
    if "train_batch_size" in template:  # DeepSpeed multiplies the others
        decided["train_batch_size"] = micro_batch * accumulation * world
    if precision is not None:
        decided |= {f"{kind}.enabled": precision == kind for kind in ("bf16", "fp16")}
    filled = deepcopy(template)
    for name, value in decided.items():
        section, _, key = name.rpartition(".")
        entries = filled.setdefault(section, {}) if section else filled
        given = entries.get(key)
        if given is not None and given != value:
            raise UserError(
                f"deepspeed: {place}: {name}={given}, but the run decides {value} "
                f'({_FROM[name]}); leave it out, write "auto", or change that'
            )
        entries[key] = value
    filled |= {"zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False}
    zero = filled.setdefault("zero_optimization", {"stage": 0})
    if zero.get("stage", 0):  # without ZeRO this would choose another engine
        filled["data_types"] = {"grad_accum_dtype": "fp32"}
    for part in ("offload_optimizer", "offload_param"):
        if zero.get(part):
            pinned = zero[part].get("pin_memory")
            zero[part]["pin_memory"] = pin_memory if pinned is None else pinned
    return filled


def require_graphs(config: dict[str, Any], *, compiled: bool) -> None:
    """Refuse to replay both passes as CUDA graphs where that cannot be.

    What is compiled is recorded, gradients and parameters must stay where the graph has them: in
    bf16 with ZeRO stage 1 DeepSpeed keeps parameters in place and adds each gradient to one of its
    own at once, after which the graph's memory is free for the next replay.
    """
    stage = config.get("zero_optimization", {}).get("stage", 0)
    if stage != 1 or not config.get("bf16", {}).get("enabled"):
        raise UserError(
            f"cuda_graphs=true: needs precision=bf16 and ZeRO stage 1, this is stage {stage}; "
            "choose deepspeed=zero1 or leave it out (one process with zero0 or zero1 and adamw "
            "without bias correction needs neither bf16 nor compile)"
        )
    if not compiled:
        raise UserError(
            "cuda_graphs=true compile=false: here only what is compiled is replayed; leave one out "
            "(one process with zero0 or zero1 and adamw without bias correction needs no compile)"
        )
