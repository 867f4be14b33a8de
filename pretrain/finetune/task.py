"""The description of a labelled task: a few lines of YAML."""

from importlib import resources
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from convbert.models.errors import UserError
from convbert.pretrain.finetune.metrics import METRICS

Kind = Literal["classification", "regression"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SplitRule(_Section):
    """How one file becomes several: each text falls into its part by a keyed hash of itself.

    The part of a row depends on nothing but the row and ``seed``, so that reordering or
    extending the file moves nothing, and equal texts never end up on both sides.
    """

    dev: float = Field(0.1, gt=0, lt=1, description="share of the rows to measure on")
    test: float = Field(0.0, ge=0, lt=1, description="share of the rows for a final measurement")
    seed: int = 0

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> Self:
        if self.dev + self.test >= 1:
            raise ValueError(f"dev {self.dev} and test {self.test} leave no rows to train on")
        return self


class FinetuneConfig(_Section):
    """The fine-tuning recipe; the defaults are those of ConvBERT's and ELECTRA's released code."""

    epochs: int = Field(3, gt=0)
    batch_size: int = Field(32, gt=0)
    max_length: int = Field(128, gt=4, description="tokens, special ones included")
    learning_rate: float = Field(3e-4, gt=0, description="of the task head; 1e-4 for base models")
    layer_decay: float = Field(0.8, gt=0, le=1, description="factor per layer downwards")
    decay_exponent: Literal["correct", "paper"] = Field(
        "correct",
        description="paper: one factor too many below the head, as in ELECTRA's released code",
    )
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the updates")
    bias_correction: bool = Field(
        False, description="of AdamW; off as in the papers, on is steadier in short fine-tunings"
    )
    clip: float = Field(1.0, gt=0, description="global gradient norm")
    dropout: float = Field(0.1, ge=0, lt=1, description="on the vector that the head reads")
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="what the head reads: [CLS] as in the papers, or the tokens' mean"
    )


class TaskSpec(_Section):
    """One task: its files, its columns, its measures and its recipe."""

    name: str = Field(min_length=1)
    kind: Kind = "classification"
    train: Path = Field(description="CSV, TSV or JSON-lines file")
    dev: Path | None = Field(None, description="default: a part of train, see split")
    test: Path | None = Field(None, description="may lack labels")
    text: list[str] = Field(min_length=1, max_length=2, description="one column, or two for pairs")
    label: str = "label"
    labels: list[str] | None = Field(None, description="class names; default: those in train")
    label_scale: float = Field(1.0, gt=0, description="regression targets are divided by it")
    where: dict[str, str] = Field(default_factory=dict, description="keep rows with these values")
    metrics: list[str] = Field(min_length=1, description="the first decides")
    split: SplitRule = SplitRule()
    train_rows: int | None = Field(
        None, gt=0, description="train on this many rows; fewer show more of what pretraining gave"
    )
    swap_pairs: bool = Field(False, description="train on both orders of each pair")
    recipe: FinetuneConfig = FinetuneConfig()

    @property
    def metric(self) -> str:
        """The measure that decides."""
        return self.metrics[0]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in self.metrics:
            known = [m for m in METRICS if METRICS[m].kind == self.kind]
            if name not in known:
                raise ValueError(f"metrics: no {name!r} for {self.kind}; use {', '.join(known)}")
        if self.split.test and (self.dev or self.test):
            raise ValueError("split.test divides train; leave out the files dev and test")
        if self.swap_pairs and len(self.text) != 2:
            raise ValueError("swap_pairs needs two text columns")
        return self


def load_task(source: str, data_dir: Path | None = None) -> TaskSpec:
    """Read the YAML file ``source``, or the task of that name that comes with the package.

    Relative file names in it start at ``data_dir``; by default at the YAML file's own folder, and
    for the tasks of the package at the current one. Raises ``UserError`` naming file and key.
    """
    path = Path(source)
    if not path.is_file():
        packaged = resources.files(__package__) / "tasks"
        names = sorted(p.name.removesuffix(".yaml") for p in packaged.iterdir())
        if source not in names:
            raise UserError(f"task {source!r}: no such file, and not one of {', '.join(names)}")
        text, base = (packaged / f"{source}.yaml").read_text(), data_dir or Path()
    else:
        text, base = path.read_text(encoding="utf-8"), data_dir or path.parent
    try:
        entry = yaml.safe_load(text)
        task = TaskSpec.model_validate(entry)
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not YAML ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(map(str, detail["loc"])) or "task"
        message = detail["msg"].removeprefix("Value error, ")
        raise UserError(f"{source}: {key}: {message}") from error
    files = {key: getattr(task, key) for key in ("train", "dev", "test")}
    return task.model_copy(update={key: base / file for key, file in files.items() if file})
