"""The state of fp16's dynamic loss scale, which a resumed run needs to repeat its updates."""

from typing import Any

from convbert.pretrain.engine.engine import Engine

_FIELDS = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


def _scaler(engine: Engine) -> Any:
    """Return DeepSpeed's scaler: ZeRO stages have one kind, stage 0 another."""
    optimizer = engine.deepspeed.optimizer
    return getattr(optimizer, "loss_scaler", None) or getattr(optimizer, "loss_scale_config", None)


def read(engine: Engine) -> dict[str, float]:
    """Return the fields that change during training; empty where losses are not scaled."""
    scaler = _scaler(engine)
    return {name: getattr(scaler, name) for name in _FIELDS if hasattr(scaler, name)}


def write(engine: Engine, state: dict[str, float]) -> None:
    """Put back what ``read`` returned; fields that this stage's scaler lacks are left."""
    scaler = _scaler(engine)
    for name, value in state.items():
        if hasattr(scaler, name):
            setattr(scaler, name, value)
