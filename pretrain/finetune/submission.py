"""Prediction files: GLUE's submission format, SQuAD's JSON files, CoNLL columns, JSON lines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convbert.data_pipeline.atomic import atomic_write
from convbert.pretrain.finetune.data import TaskData


def write_predictions(data: TaskData, split: str, predictions: list[Any], folder: Path) -> Path:
    """Write the predictions for a split into ``folder``; return the (first) file's path.

    Classes and numbers become a TSV file with the columns index and prediction, as GLUE's server
    takes it; a task's ``submission`` names the file, ``SPLIT.tsv`` is the default. The index is the
    rows' id where these are different numbers, else a row's place from 0 on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _WRITERS[data.task.kind](data, split, predictions, folder)


def _tsv(data: TaskData, split: str, predictions: list[Any], folder: Path) -> Path:
    classes = data.task.kind == "classification"
    examples = data.examples[split]
    ids = [example.id or "" for example in examples]
    if len(set(ids)) < len(ids) or not all(map(str.isdecimal, ids)):
        ids = [str(number) for number in range(len(ids))]
    lines = ["index\tprediction"]
    for index, value in zip(ids, predictions, strict=True):
        # A prediction in float32 has seven digits, wherever its point is.
        lines.append(f"{index}\t{data.named(value) if classes else f'{value:.7g}'}")
    path = folder / data.task.submission.get(split, f"{split}.tsv")
    return _write(path, "\n".join(lines) + "\n")


def _conll(data: TaskData, split: str, predictions: list[Any], folder: Path) -> Path:
    """Write a word and its tag in each line, between them a tab where words contain spaces."""
    words = (word for example in data.examples[split] for word in example.texts)
    gap = "\t" if any(" " in word for word in [*words, *data.class_names]) else " "
    sentences = []
    for example, tags in zip(data.examples[split], predictions, strict=True):
        pairs = zip(example.texts, tags, strict=True)
        sentences.append("".join(f"{word}{gap}{tag}\n" for word, tag in pairs))
    return _write(folder / f"{split}.conll", "\n".join(sentences))


def _squad(data: TaskData, split: str, predictions: list[Any], folder: Path) -> Path:
    """Write what SQuAD's scripts take: answers, the odds against one, and the best texts."""
    examples = data.examples[split]
    names = [example.id or str(number) for number, example in enumerate(examples)]
    pairs = list(zip(names, predictions, strict=True))
    _write(folder / f"{split}.null_odds.json", _json({n: a.null_odds for n, a in pairs}))
    best = {n: [{"text": t, "log_probability": p} for t, p in a.n_best] for n, a in pairs}
    _write(folder / f"{split}.nbest.json", _json(best))
    return _write(folder / f"{split}.predictions.json", _json({n: a.text for n, a in pairs}))


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def _write(path: Path, content: str) -> Path:
    with atomic_write(path) as file:
        file.write(content.encode())
    return path


_WRITERS: dict[str, Callable[[TaskData, str, list[Any], Path], Path]] = {
    "classification": _tsv,
    "regression": _tsv,
    "tagging": _conll,
    "qa": _squad,
}
