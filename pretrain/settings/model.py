"""Which networks a run trains."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.errors import UserError
from convbert.models.faults import first_fault
from convbert.models.presets import preset
from convbert.models.schema import StrictModel

_ELSEWHERE = {
    "name": "model.preset names the size",
    "vocab_size": "the shards decide it",
}
"""Arguments of ``preset`` that are no overrides, and what decides them."""

Adaptation = Literal["layers", "positions", "vocabulary", "padding", "generator"]


class ModelConfig(StrictModel):
    """Which networks are trained; the vocabulary size always comes from the shards."""

    preset: str = Field(
        "small", description="size: tiny, small, medium-small, base, large, ...", examples=["base"]
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        description="changes of the preset, see model.overrides below",
        examples=[{"num_layers": 6}],
    )
    init_from: Path | None = Field(
        None,
        description="Hugging Face directory whose weights the run starts from",
        examples=["start"],
    )
    adapt: tuple[Adaptation, ...] = Field(
        (),
        description="differences from init_from that are adapted: layers (the upper are dropped), "
        "positions (repeated, or cut), vocabulary (rows for more tokens at the end are fresh), "
        "padding (hidden from the convolution or not), generator (a fresh one)",
        examples=[["positions"]],
    )

    @model_validator(mode="after")
    def _adapts_something(self) -> Self:
        if self.adapt and self.init_from is None:
            raise ValueError(f"adapt={list(self.adapt)} without init_from: give the weights' place")
        return self

    def build(self, vocab_size: int) -> PretrainingConfig:
        """Return the networks for a vocabulary of ``vocab_size``."""
        for key, source in _ELSEWHERE.items():
            if key in self.overrides:
                raise UserError(
                    f"model.overrides.{key}={self.overrides[key]}: {source}; leave it out"
                )
        try:
            return preset(self.preset, vocab_size=vocab_size, **self.overrides)
        except ValidationError as error:
            raise UserError(f"model.overrides: {first_fault(error, EncoderConfig)}") from None
