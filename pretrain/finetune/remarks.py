"""What a person should know of a task's rows before its measures are read."""

import math
from typing import Any

from convbert.pretrain.finetune.answer_metrics import Answer
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.kinds import PROBLEMS
from convbert.pretrain.finetune.metrics import METRICS

_LISTED = 5  # classes that are named


def remarks(data: TaskData) -> list[str]:
    """Say which splits are not measured, which measures they leave undefined, and over what."""
    found = []
    for split, examples in data.examples.items():
        place = f"task {data.task.name}, {split}"
        empty = sum(not all(text.strip() for text in example.texts) for example in examples)
        if empty:
            found.append(f"{place}: {empty:,} of {len(examples):,} rows have an empty text")
        if full := _full(data, split):
            found.append(
                f"{place}: {full:,} of {len(examples):,} rows fill recipe.max_length="
                f"{data.task.recipe.max_length}; what is longer is cut"
            )
        missing = sum(example.label is None for example in examples)
        if missing:
            if missing < len(examples):
                found.append(
                    f"{place}: {missing:,} of {len(examples):,} rows have no label, "
                    "so nothing is measured on it"
                )
            continue
        if split != "train":
            found += [f"{place}: {remark}" for remark in _of_measures(data, split)]
    return found


def _full(data: TaskData, split: str) -> int:
    """Count rows without room for another token; words and contexts go on in further rows."""
    if data.task.kind not in ("classification", "regression"):
        return 0
    return sum(len(ids) == data.task.recipe.max_length for ids in data.splits[split].input_ids)


def _of_measures(data: TaskData, split: str) -> list[str]:
    gold = PROBLEMS[data.task.kind].gold(data, split)
    perfect = [_answer(texts) for texts in gold] if data.task.kind == "qa" else gold
    measures = METRICS[data.task.kind]
    undefined = [n for n in data.task.metrics if math.isnan(measures[n](gold, perfect))]
    found = []
    if undefined:
        found.append(f"{', '.join(undefined)} undefined: {_lack(data, split, gold)}")
    if "f1_macro" in data.task.metrics:
        absent = [n for i, n in enumerate(data.class_names) if i not in set(gold)]
        if absent:
            count = len(data.class_names)
            more = ", ..." if len(absent) > _LISTED else ""
            found.append(
                f"f1_macro is over {count - len(absent)} of {count} classes, "
                f"no row has {', '.join(absent[:_LISTED])}{more}"
            )
    return found


def _lack(data: TaskData, split: str, gold: list[Any]) -> str:
    """Say why a measure cannot tell right from wrong."""
    kind = data.task.kind
    if kind == "tagging":
        return "no row has a span"
    if kind == "qa":
        return "all questions have an answer" if all(gold) else "no question has an answer"
    label = data.named(gold[0]) if kind == "classification" else gold[0]
    return f"every row has the label {label}"


def _answer(texts: list[str]) -> Answer:
    best = texts[0] if texts else ""
    return Answer(best, best, 0.0 if texts else 1.0)
