"""The four kinds of task, each as the functions that differ between them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.finetune import answering, sentences, tagging
from convbert.pretrain.finetune.answer_head import HEADS
from convbert.pretrain.finetune.data import Features, LabeledBatch, TaskData
from convbert.pretrain.finetune.model import SentenceHead, TokenHead
from convbert.pretrain.finetune.reading import Example, read_examples, require_rows
from convbert.pretrain.finetune.recipe import FinetuneConfig
from convbert.pretrain.finetune.sources import DataSource
from convbert.pretrain.finetune.task import TaskSpec


@dataclass(frozen=True)
class Problem:
    """How a kind of task is encoded, trained on and predicted.

    ``decode`` turns a batch's scores into one value for each row, ``collect`` the rows of a split
    into one prediction for each example, comparable with ``gold``.
    """

    encode: Callable[[TaskSpec, Tokenizer, list[Example]], Features]
    head: Callable[[int, int, FinetuneConfig], nn.Module]
    loss: Callable[[TaskSpec, Any, LabeledBatch], Tensor]
    decode: Callable[[TaskData, str, Any, LabeledBatch], list[Any]]
    collect: Callable[[TaskData, str, list[Any]], list[Any]]
    gold: Callable[[TaskData, str], list[Any]]


def _span_head(hidden_size: int, num_outputs: int, recipe: FinetuneConfig) -> nn.Module:
    return HEADS[recipe.qa.head](hidden_size, recipe.qa)


PROBLEMS: dict[str, Problem] = {
    "classification": Problem(
        sentences.encode,
        SentenceHead,
        sentences.classification_loss,
        sentences.classify,
        sentences.unchanged,
        sentences.gold,
    ),
    "regression": Problem(
        sentences.encode,
        SentenceHead,
        sentences.regression_loss,
        sentences.regress,
        sentences.unchanged,
        sentences.gold,
    ),
    "tagging": Problem(
        tagging.encode, TokenHead, tagging.loss, tagging.decode, tagging.collect, tagging.gold
    ),
    "qa": Problem(
        answering.encode,
        _span_head,
        answering.loss,
        answering.decode,
        answering.collect,
        answering.gold,
    ),
}


def prepare(task: TaskSpec, tokenizer: Tokenizer, source: DataSource = "auto") -> TaskData:
    """Read and encode the task's rows; raises ``UserError`` for unusable ones."""
    examples, names = read_examples(task, source)
    task = task.measured(names)
    if task.swap_pairs:
        examples["train"] = examples["train"] + sentences.swapped(examples["train"])
    encode = PROBLEMS[task.kind].encode
    splits = {split: encode(task, tokenizer, rows) for split, rows in examples.items()}
    return TaskData(task, names, tokenizer.pad_id, tokenizer.vocab_size, splits, examples)


def prepare_all(
    tasks: Sequence[TaskSpec], tokenizer: Tokenizer, source: DataSource = "auto"
) -> list[TaskData]:
    """Prepare tasks; one with a list of ``train_rows`` gives as many as the list has numbers.

    Raises ``UserError`` for unusable rows, and for more rows than there are.
    """
    found = []
    for task in tasks:
        data = prepare(task, tokenizer, source)
        for one in data.task.by_size():
            sizes = one.train_rows if isinstance(one.train_rows, list) else []
            for rows in sizes:
                if rows != "all":
                    present = len(data.examples["train"]) // (2 if task.swap_pairs else 1)
                    require_rows(one.name, rows, present)
            found.append(replace(data, task=one))
    return found


def build_head(data: TaskData, hidden_size: int) -> nn.Module:
    """Return a fresh head for a task, on the states of an encoder."""
    outputs = max(1, len(data.class_names))
    return PROBLEMS[data.task.kind].head(hidden_size, outputs, data.task.recipe)
