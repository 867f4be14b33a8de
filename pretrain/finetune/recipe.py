"""The fine-tuning recipe, and how rows are split; importable without PyTorch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from convbert.models.schema import StrictModel


class SplitRule(StrictModel):
    """How one file is split: a hash of each text, keyed by ``seed``, decides its part.

    The part of a row depends on nothing but the row and ``seed``, so that reordering or
    extending the file moves no row, and equal texts are always in the same part.
    """

    dev: float = Field(0.1, gt=0, lt=1, description="share of the rows to measure on")
    test: float = Field(0.0, ge=0, lt=1, description="share of the rows for a final measurement")
    seed: int = Field(0, description="number that decides which rows go where")
    by: str | None = Field(
        None,
        description="column whose value decides instead of the texts, to keep groups together",
        examples=["customer"],
    )

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.dev + self.test >= 1:
            raise ValueError(f"dev {self.dev} and test {self.test} leave no rows to train on")
        return self


class AnswerConfig(StrictModel):
    """Extractive question answering: windows over the context, the head, and how spans are chosen.

    The values are those of ELECTRA's released code.
    """

    head: Literal["electra", "simple"] = Field(
        "electra",
        description="electra: the end depends on the start, answerability has its own output; "
        "simple: two linear outputs as in BERT",
    )
    stride: int | None = Field(
        None,
        gt=0,
        description="tokens from one window to the next; default 128 as far as every answer of "
        "max_answer tokens lies in a window",
        examples=[64],
    )
    max_query: int = Field(64, gt=0, description="tokens of the question")
    max_answer: int = Field(30, gt=0, description="tokens")
    beam: int = Field(20, gt=0, description="starts that are followed, electra head")
    n_best: int = Field(20, gt=0, description="number of spans kept for each question")
    answerable_weight: float = Field(0.5, ge=0, description="factor of the answerability loss")
    null_threshold: float = Field(
        0.0,
        description="a number; answer nothing where the null odds exceed it; ELECTRA: -2.75",
    )


class FinetuneConfig(StrictModel):
    """The fine-tuning recipe; the defaults are those of ConvBERT's and ELECTRA's released code."""

    epochs: int = Field(3, gt=0, description="epochs, passes over the training rows", examples=[10])
    min_updates: int = Field(0, ge=0, description="more epochs where these would be fewer updates")
    batch_size: int = Field(32, gt=0, description="rows per update", examples=[16])
    max_length: int = Field(128, gt=4, description="tokens, special ones included")
    learning_rate: float = Field(
        3e-4, gt=0, description="peak rate of the task head per update; 1e-4 for base models"
    )
    layer_decay: float = Field(0.8, gt=0, le=1, description="factor per layer downwards")
    decay_exponent: Literal["correct", "paper"] = Field(
        "correct",
        description="paper: one factor too many below the head, as in ELECTRA's released code",
    )
    weight_decay: float = Field(0.01, ge=0, description="decay factor, times the rate, per update")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the updates")
    schedule: Literal["electra", "linear"] = Field(
        "electra",
        description="electra: decay over all updates times the warm-up; linear: up, then down",
    )
    bias_correction: bool = Field(
        False, description="of AdamW; off as in the papers, on is steadier in short fine-tunings"
    )
    clip: float = Field(1.0, gt=0, description="global gradient norm")
    dropout: float = Field(
        0.1, ge=0, lt=1, description="share dropped of the vector that the head reads"
    )
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="what the head reads: [CLS] as in the papers, or the tokens' mean"
    )
    head: Literal["linear", "mlp"] = Field(
        "linear",
        description="linear: one layer as in the papers; mlp: the hidden layer of transformers' "
        "ConvBertForSequenceClassification",
    )
    qa: AnswerConfig = AnswerConfig()
