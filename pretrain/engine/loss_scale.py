"""The loss scale of fp16: one view of what DeepSpeed keeps in two places, and a repair of one.

fp16 gradients below 6e-8 vanish, so the loss is multiplied by a scale that halves when a gradient
overflows and doubles after a while without. ZeRO does all of that. Without ZeRO, DeepSpeed 0.19
divides the gradients by the scale but never multiplies the loss (its engine only knows ZeRO's
optimizers), and divides by the next scale where the scale has just doubled; both are put right
here.
"""

from typing import Any

from torch import Tensor

_FIELDS = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


class LossScale:
    """The loss scale of a DeepSpeed engine; constant 1 in other precisions than fp16."""

    def __init__(self, engine: Any, stage: int) -> None:
        self._scaler: Any = None
        self._repairs = stage == 0 and engine.fp16_enabled()
        if engine.fp16_enabled():
            wrapper = engine.optimizer
            self._scaler = wrapper.loss_scale_config if self._repairs else wrapper.loss_scaler
        if self._repairs:
            self._change = engine.optimizer._update_scale
            self._pending: list[bool] = []
            engine.optimizer._update_scale = self._pending.append

    @property
    def value(self) -> float:
        """What the loss is multiplied with."""
        return 1.0 if self._scaler is None else float(self._scaler.cur_scale)

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss to hand to DeepSpeed."""
        return loss * self.value if self._repairs else loss

    def unscaled(self, norm: float | Tensor) -> float | Tensor:
        """Return the true norm of the gradient that DeepSpeed says has ``norm``."""
        return norm / self.value if self._repairs else norm

    def adapt(self) -> None:
        """Change the scale after an update, where DeepSpeed would have done it too early."""
        if self._repairs:
            for overflow in self._pending:
                self._change(overflow)
            self._pending.clear()

    def state(self) -> dict[str, float]:
        """Return the fields that change during training; empty where losses are not scaled."""
        return {
            name: getattr(self._scaler, name) for name in _FIELDS if hasattr(self._scaler, name)
        }

    def load(self, state: dict[str, float]) -> None:
        """Put back what ``state`` returned; fields that this stage's scaler lacks are left."""
        for name, value in state.items():
            if hasattr(self._scaler, name):
                setattr(self._scaler, name, value)
