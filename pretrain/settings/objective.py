"""Settings of the pretraining objective, importable without PyTorch."""

from pydantic import Field

from convbert.models.schema import StrictModel


class MaskingConfig(StrictModel):
    """What is masked, and how the discriminator's input is sampled."""

    mask_fraction: float = Field(0.15, gt=0, lt=1, description="share of real tokens selected")
    mask_token_fraction: float = Field(
        0.85, ge=0, le=1, description="share of selected positions shown as [MASK]"
    )
    temperature: float = Field(1.0, gt=0, description="of the generator's softmax when sampling")


class ObjectiveConfig(StrictModel):
    """Weights of the two losses and the masking that feeds them."""

    masking: MaskingConfig = MaskingConfig()
    generator_weight: float = Field(1.0, ge=0)
    discriminator_weight: float = Field(50.0, ge=0, description="lambda of ELECTRA, eq. 1")
