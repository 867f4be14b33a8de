"""Fine-tuning one encoder on one task with one seed."""

import copy
import math
import time
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, Field

from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.schema import StrictModel
from convbert.pretrain.engine.optimizer import AdamW
from convbert.pretrain.finetune.data import (
    LabeledBatch,
    TaskData,
    evaluation_batches,
    training_batches,
)
from convbert.pretrain.finetune.device import training_autocast
from convbert.pretrain.finetune.keeping import write_task_model
from convbert.pretrain.finetune.kinds import PROBLEMS, build_head
from convbert.pretrain.finetune.layer_rates import parameter_groups
from convbert.pretrain.finetune.metrics import METRICS
from convbert.pretrain.finetune.model import TaskModel
from convbert.pretrain.finetune.recipe import FinetuneConfig
from convbert.pretrain.run.schedule import learning_rate
from convbert.pretrain.settings.optimizer import ScheduleConfig


class FinetuneResult(StrictModel):
    """What one seed measured: ``scores[split][metric]``, for each split with labels.

    ``predictions`` holds those of the splits that were asked for, in file order. ``train_loss`` is
    NaN where training diverged.
    """

    # NaN is not JSON: as a string it can be read back.
    model_config = ConfigDict(ser_json_inf_nan="strings")

    task: str
    metric: str
    seed: int
    scores: dict[str, dict[str, float]]
    train_loss: float
    seconds: float
    predictions: dict[str, list[Any]] = Field(default_factory=dict, exclude=True)

    @property
    def score(self) -> float:
        """The deciding measure on the dev split."""
        return self.scores["dev"][self.metric]

    def rank(self) -> float:
        """Return what orders seeds; NaN compares with nothing, so undefined is below all."""
        return -math.inf if math.isnan(self.score) else self.score


def finetune(
    encoder: Encoder,
    data: TaskData,
    *,
    seed: int,
    keep: bool = False,
    model_to: Path | None = None,
) -> FinetuneResult:
    """Fine-tune a copy of ``encoder`` on a task and measure it on the held-out rows.

    It computes where the encoder is. On a CPU the same arguments give the same result on the same
    machine and thread count. ``keep`` predicts every split but train, labeled or not, and keeps
    the predictions, ``model_to`` is where the model is written as Hugging Face's. Raises
    ``UserError`` for a tokenizer that does not fit the encoder.
    """
    check_fit(encoder.config, data)
    data = data.for_seed(seed)
    started = time.perf_counter()
    device = encoder.embeddings.word.weight.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = TaskModel(copy.deepcopy(encoder), build_head(data, encoder.config.hidden_size))
        loss = train(model.to(device), data, seed)
    held_out = [split for split in data.splits if split != "train"]
    chosen = [split for split in held_out if keep or data.labeled(split)]
    predictions = {split: predict(model, data, split) for split in chosen}
    if model_to is not None:
        write_task_model(model, data, model_to)
    return FinetuneResult(
        task=data.task.name,
        metric=data.task.metric,
        seed=seed,
        scores={s: score(data, s, predictions[s]) for s in chosen if data.labeled(s)},
        train_loss=loss,
        seconds=time.perf_counter() - started,
        predictions=predictions if keep else {},
    )


def train(model: TaskModel, data: TaskData, seed: int) -> float:
    """Train for the recipe's epochs, or updates; return the mean loss of the last epoch."""
    recipe = data.task.recipe
    groups = parameter_groups(model, recipe.layer_decay, recipe.decay_exponent, recipe.weight_decay)
    optimizer = AdamW(groups, bias_correction=recipe.bias_correction)
    generator = torch.Generator().manual_seed(seed)
    per_epoch = math.ceil(len(data.splits["train"]) / recipe.batch_size)
    epochs = max(recipe.epochs, math.ceil(recipe.min_updates / per_epoch))
    step, mean_loss = 0, 0.0
    model.train()
    for _ in range(epochs):
        mean_loss = 0.0
        for batch in training_batches(data, generator):
            set_rates(optimizer, recipe, step, per_epoch * epochs)
            mean_loss += _update(model, optimizer, data, batch) / per_epoch
            step += 1
    return mean_loss


def set_rates(optimizer: AdamW, recipe: FinetuneConfig, step: int, total: int) -> None:
    """Give each parameter group its rate for update ``step`` of ``total``."""
    shape = ScheduleConfig(name=recipe.schedule, warmup_steps=round(recipe.warmup * total))
    rate = learning_rate(shape, step, total, recipe.learning_rate)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


@torch.no_grad()
def predict(model: TaskModel, data: TaskData, split: str) -> list[Any]:
    """Return the prediction for each example of ``split``, in file order.

    A class index, a number, the tags by name, or an ``Answer``.
    """
    model.eval()
    problem = PROBLEMS[data.task.kind]
    rows: list[Any] = [None] * len(data.splits[split])
    for batch in evaluation_batches(data, split):
        moved = batch.to(model.device)
        values = problem.decode(data, split, model(moved), moved)
        for row, value in zip(batch.rows, values, strict=True):
            rows[row] = value
    return problem.collect(data, split, rows)


def score(data: TaskData, split: str, predictions: list[Any]) -> dict[str, float]:
    """Return each of the task's measures of the predictions for a labeled split."""
    gold = PROBLEMS[data.task.kind].gold(data, split)
    return {name: METRICS[data.task.kind][name](gold, predictions) for name in data.task.metrics}


def check_fit(config: EncoderConfig, data: TaskData) -> None:
    """Raise ``UserError`` unless such an encoder can read the task's ids and lengths."""
    recipe = data.task.recipe
    if data.vocab_size > config.vocab_size:
        raise UserError(
            f"task {data.task.name}: the tokenizer has {data.vocab_size} ids, the encoder "
            f"{config.vocab_size}; use the tokenizer that the encoder was trained with"
        )
    if recipe.max_length > config.max_positions:
        raise UserError(
            f"task {data.task.name}: recipe.max_length={recipe.max_length} exceeds the encoder's "
            f"{config.max_positions} positions; lower it"
        )


def _update(model: TaskModel, optimizer: AdamW, data: TaskData, batch: LabeledBatch) -> float:
    task = data.task
    batch = batch.to(model.device)
    with training_autocast(model.device):
        loss = PROBLEMS[task.kind].loss(task, model(batch), batch)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), task.recipe.clip)
    optimizer.step()
    return loss.item()
