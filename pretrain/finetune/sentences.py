"""Classification and regression of a text or a pair.

Shapes: B rows, C outputs.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.finetune.data import Features, LabeledBatch, TaskData, framed
from convbert.pretrain.finetune.reading import Example
from convbert.pretrain.finetune.task import TaskSpec


def encode(task: TaskSpec, tokenizer: Tokenizer, examples: list[Example]) -> Features:
    """Encode as [CLS] A [SEP] or [CLS] A [SEP] B [SEP], cut to the maximum."""
    columns = [
        tokenizer.encode_batch([example.texts[i] for example in examples])
        for i in range(len(task.text))
    ]
    room = task.recipe.max_length - 1 - len(columns)
    found = Features()
    for owner, (example, *parts) in enumerate(zip(examples, *columns, strict=True)):
        label = math.nan if example.label is None else float(example.label)
        found.add(framed(truncate(parts, room), tokenizer), label, owner)
    return found


def truncate(parts: Sequence[list[int]], room: int) -> list[list[int]]:
    """Shorten the longer part, from its end, until all fit into ``room`` ids together."""
    if len(parts) == 1:
        return [parts[0][:room]]
    first, second = parts
    excess = max(0, len(first) + len(second) - room)
    from_longer = min(excess, abs(len(first) - len(second)))
    rest = excess - from_longer
    cut_first = (from_longer if len(first) > len(second) else 0) + rest // 2
    cut_second = excess - cut_first
    return [first[: len(first) - cut_first], second[: len(second) - cut_second]]


def swapped(examples: list[Example]) -> list[Example]:
    """Return the pairs in the other order."""
    return [Example(example.texts[::-1], example.label) for example in examples]


def classification_loss(task: TaskSpec, scores_BC: Tensor, batch: LabeledBatch) -> Tensor:
    """Return the mean cross-entropy against class indices."""
    return nn.functional.cross_entropy(scores_BC, batch.labels.long())


def regression_loss(task: TaskSpec, scores_BC: Tensor, batch: LabeledBatch) -> Tensor:
    """Return the mean squared error against scaled targets."""
    return nn.functional.mse_loss(scores_BC.squeeze(1), batch.labels / task.label_scale)


def classify(data: TaskData, split: str, scores_BC: Tensor, batch: LabeledBatch) -> list[Any]:
    """Return the index of the best class of each row."""
    return torch.argmax(scores_BC, dim=1).tolist()


def regress(data: TaskData, split: str, scores_BC: Tensor, batch: LabeledBatch) -> list[Any]:
    """Return the prediction of each row in the units of its labels."""
    return (scores_BC.squeeze(1) * data.task.label_scale).tolist()


def unchanged(data: TaskData, split: str, rows: list[Any]) -> list[Any]:
    """Return the rows: each is one example."""
    return rows


def gold(data: TaskData, split: str) -> list[Any]:
    """Return the labels of a split."""
    return [example.label for example in data.examples[split]]
