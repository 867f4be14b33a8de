"""In which settings that decide results two runs differ."""

from typing import Any

from convbert.pretrain.settings.run import RunConfig

# These change how a run is executed, not what it computes, so a resumed run may alter them.
EXECUTION_KEYS = (
    "micro_batch",
    "deepspeed",
    "threads",
    "compile",
    "cuda_graphs",
    "activation_checkpointing",
    "peak_tflops",
    "profile",
    "checkpoint",
    "guards",
    "tracking",
    "evaluation",
    "data.on_damage",
    "data.cache",
    "data.cache_gigabytes",
    "data.stage",
)

_EXECUTION_PREFIXES = tuple(f"{key}." for key in EXECUTION_KEYS)


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """List ``key: old -> new`` for keys that decide results, dotted and sorted."""
    left, right = deciding(old), deciding(new)
    return [
        f"{key}: {left.get(key)} -> {right.get(key)}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


def deciding(config: RunConfig) -> dict[str, Any]:
    """Return all settings that decide results, by their dotted keys."""
    flat = _flatten(config.model_dump(mode="json"))
    return {key: value for key, value in flat.items() if not only_execution(key)}


def only_execution(key: str) -> bool:
    """Return whether a dotted key changes only how a run is executed."""
    of_a_phase = key.startswith("phases.") and key.endswith(".micro_batch")
    return of_a_phase or f"{key}.".startswith(_EXECUTION_PREFIXES)


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {str(number): item for number, item in enumerate(value)}
        flat |= _flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat
