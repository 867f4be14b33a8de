"""Tagging: a tag for every word of a sentence.

The first token of a word carries its tag. A sentence longer than a row continues in further rows,
so every word gets a prediction. Shapes: B rows, L positions, C tags.
"""

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.finetune.data import IGNORED, Features, LabeledBatch, TaskData, framed
from convbert.pretrain.finetune.reading import Example
from convbert.pretrain.finetune.task import TaskSpec


def encode(task: TaskSpec, tokenizer: Tokenizer, examples: list[Example]) -> Features:
    """Encode each word by itself; ``places`` are the positions of the words' first tokens."""
    words = tokenizer.encode_batch([word for example in examples for word in example.texts])
    remaining = iter(words)
    room = task.recipe.max_length - 2
    found = Features()
    for owner, example in enumerate(examples):
        pieces = [
            ids or [tokenizer.unk_id] for ids in itertools.islice(remaining, len(example.texts))
        ]
        first = 0
        for count in _row_sizes(pieces, room):
            body: list[int] = []
            places = []
            for ids in pieces[first : first + count]:
                places.append(1 + len(body))  # behind [CLS]
                body += ids[:room]
            labels = [IGNORED] * (len(body) + 2)
            for place, tag in zip(places, (example.label or ())[first:], strict=False):
                labels[place] = tag
            found.add(framed([body], tokenizer), labels, owner, places)
            first += count
    return found


def _row_sizes(pieces: list[list[int]], room: int) -> list[int]:
    """Return how many words go into each row of ``room`` ids; a longer word is cut."""
    sizes, used = [0], 0
    for ids in pieces:
        length = min(len(ids), room)
        if used + length > room:
            sizes.append(0)
            used = 0
        sizes[-1] += 1
        used += length
    return sizes


def loss(task: TaskSpec, scores_BLC: Tensor, batch: LabeledBatch) -> Tensor:
    """Return the mean cross-entropy over the words of the batch."""
    return nn.functional.cross_entropy(
        scores_BLC.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED
    )


def decode(data: TaskData, split: str, scores_BLC: Tensor, batch: LabeledBatch) -> list[Any]:
    """Return the best tag's index for every word of each row."""
    best_BL = torch.argmax(scores_BLC, dim=2).tolist()
    places = data.splits[split].places
    return [[best[p] for p in places[row]] for best, row in zip(best_BL, batch.rows, strict=True)]


def collect(data: TaskData, split: str, rows: list[Any]) -> list[Any]:
    """Return the tags of every sentence, by name."""
    sentences: list[list[str]] = [[] for _ in data.examples[split]]
    for owner, tags in zip(data.splits[split].owners, rows, strict=True):
        sentences[owner] += map(data.named, tags)
    return sentences


def gold(data: TaskData, split: str) -> list[Any]:
    """Return the right tags of every sentence, by name."""
    return [[data.named(tag) for tag in example.label] for example in data.examples[split]]
