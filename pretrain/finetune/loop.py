"""Fine-tuning one encoder on one task with one seed."""

import copy
import math
import time

import torch
from pydantic import BaseModel, ConfigDict

from convbert.data_pipeline.tokenizer import Tokenizer
from convbert.models.config import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.pretrain.finetune.data import (
    LabelledBatch,
    TaskData,
    evaluation_batches,
    prepare,
    training_batches,
)
from convbert.pretrain.finetune.layer_rates import parameter_groups
from convbert.pretrain.finetune.metrics import METRICS
from convbert.pretrain.finetune.model import LOSSES, PREDICTIONS, SequenceClassifier
from convbert.pretrain.finetune.task import FinetuneConfig, TaskSpec
from convbert.pretrain.training.optimizer import AdamW
from convbert.pretrain.training.schedule import electra


class FinetuneResult(BaseModel):
    """What one fine-tuning measured: ``scores[split][metric]``, for each split with labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    metric: str
    seed: int
    scores: dict[str, dict[str, float]]
    train_loss: float
    seconds: float

    @property
    def score(self) -> float:
        """The deciding measure on the dev split."""
        return self.scores["dev"][self.metric]


def finetune(
    encoder: Encoder, tokenizer: Tokenizer, task: TaskSpec, *, seed: int
) -> FinetuneResult:
    """Fine-tune a copy of ``encoder`` on ``task`` and measure it on the held-out rows.

    The same arguments give the same result on the same machine and thread count. Raises
    ``UserError`` for unusable task files and for a tokenizer that does not fit the encoder.
    """
    return finetune_prepared(encoder, prepare(task, tokenizer), seed=seed)


def finetune_prepared(encoder: Encoder, data: TaskData, *, seed: int) -> FinetuneResult:
    """Do the same for a task already encoded, as when several seeds share it."""
    check_fit(encoder.config, data)
    started = time.perf_counter()
    device = encoder.embeddings.word.weight.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = SequenceClassifier(
            copy.deepcopy(encoder),
            data.num_outputs,
            data.task.recipe.dropout,
            data.task.recipe.pooling,
        ).to(device)
        loss = train(model, data, seed)
    measured = [split for split in data.splits if split != "train" and data.splits[split].labelled]
    return FinetuneResult(
        task=data.task.name,
        metric=data.task.metric,
        seed=seed,
        scores={split: evaluate(model, data, split) for split in measured},
        train_loss=loss,
        seconds=time.perf_counter() - started,
    )


def train(model: SequenceClassifier, data: TaskData, seed: int) -> float:
    """Train for the recipe's epochs; return the mean loss of the last one."""
    recipe = data.task.recipe
    groups = parameter_groups(model, recipe.layer_decay, recipe.decay_exponent, recipe.weight_decay)
    optimizer = AdamW(groups, bias_correction=recipe.bias_correction)
    generator = torch.Generator().manual_seed(seed)
    per_epoch = math.ceil(len(data.splits["train"]) / recipe.batch_size)
    step, mean_loss = 0, 0.0
    model.train()
    for _ in range(recipe.epochs):
        mean_loss = 0.0
        for batch in training_batches(data, generator):
            set_rates(optimizer, recipe, step, per_epoch * recipe.epochs)
            mean_loss += _update(model, optimizer, data, batch) / per_epoch
            step += 1
    return mean_loss


def set_rates(optimizer: AdamW, recipe: FinetuneConfig, step: int, total: int) -> None:
    """Give each parameter group its rate for update ``step`` of ``total``."""
    rate = electra(step, total, round(recipe.warmup * total), recipe.learning_rate)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


@torch.no_grad()
def predict(model: SequenceClassifier, data: TaskData, split: str) -> list[float]:
    """Return a class index or a number for each row of ``split``, in file order."""
    model.eval()
    device = model.head.weight.device
    scale = data.task.label_scale if data.task.kind == "regression" else 1.0
    predictions = [0.0] * len(data.splits[split])
    for batch in evaluation_batches(data, split):
        values = PREDICTIONS[data.task.kind](model(batch.to(device))) * scale
        for row, value in zip(batch.rows, values.tolist(), strict=True):
            predictions[row] = value
    return predictions


def evaluate(model: SequenceClassifier, data: TaskData, split: str) -> dict[str, float]:
    """Return each of the task's measures on ``split``."""
    predictions = predict(model, data, split)
    labels = data.splits[split].labels
    return {name: METRICS[name].score(labels, predictions) for name in data.task.metrics}


def check_fit(config: EncoderConfig, data: TaskData) -> None:
    """Raise ``UserError`` unless such an encoder can read the task's ids and lengths."""
    recipe = data.task.recipe
    if data.vocab_size != config.vocab_size:
        raise UserError(
            f"task {data.task.name}: the tokenizer has {data.vocab_size} ids, the encoder "
            f"{config.vocab_size}; use the tokenizer that the encoder was trained with"
        )
    if recipe.max_length > config.max_positions:
        raise UserError(
            f"task {data.task.name}: recipe.max_length={recipe.max_length} exceeds the encoder's "
            f"{config.max_positions} positions; lower it"
        )


def _update(
    model: SequenceClassifier, optimizer: AdamW, data: TaskData, batch: LabelledBatch
) -> float:
    task = data.task
    batch = batch.to(model.head.weight.device)
    scale = task.label_scale if task.kind == "regression" else 1.0
    loss = LOSSES[task.kind](model(batch), batch.labels_B / scale)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), task.recipe.clip)
    optimizer.step()
    return loss.item()
