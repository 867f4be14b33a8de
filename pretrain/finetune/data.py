"""From labeled texts to padded batches of ids.

Shapes: B rows, L positions (the longest of the batch).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.finetune.reading import Example, drawn
from convbert.pretrain.finetune.task import TaskSpec

# Rows are sorted by length inside pools of this many batches: long enough that batches hardly
# need padding, short enough that their composition stays random.
POOL_BATCHES = 32
IGNORED = -100
"""Label of a position, or a row, that neither trains nor counts."""


Framed = tuple[list[int], list[int]]
"""Ids and token types of a row, special tokens included."""


@dataclass(frozen=True)
class Features:
    """Encoded rows of one split.

    ``labels`` holds a number for each row (NaN where there is none), or a list of indices. A long
    example may fill several rows: ``owners`` is the example of each row, and ``places`` where its
    words or its part of the context are.
    """

    input_ids: list[list[int]] = field(default_factory=list)
    token_type_ids: list[list[int]] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    places: list[Any] = field(default_factory=list)

    def add(self, framed: Framed, label: Any, owner: int, place: Any = None) -> None:
        """Append a row."""
        self.input_ids.append(framed[0])
        self.token_type_ids.append(framed[1])
        self.labels.append(label)
        self.owners.append(owner)
        self.places.append(place)

    def of(self, owners: Sequence[int]) -> "Features":
        """Return the rows of some examples, which are numbered anew in the given order."""
        numbers = {owner: number for number, owner in enumerate(owners)}
        found = Features()
        for row in (r for r in range(len(self)) if self.owners[r] in numbers):
            framed = (self.input_ids[row], self.token_type_ids[row])
            found.add(framed, self.labels[row], numbers[self.owners[row]], self.places[row])
        return found

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class TaskData:
    """A task encoded for one vocabulary: plain lists, which are cheap to send to workers."""

    task: TaskSpec
    class_names: list[str]
    pad_id: int
    vocab_size: int
    splits: dict[str, Features]
    examples: dict[str, list[Example]]

    def for_seed(self, seed: int) -> "TaskData":
        """Return what a seed trains on: its own rows where ``train_rows`` is a list of a number."""
        sizes = self.task.train_rows
        if not isinstance(sizes, list) or sizes[0] == "all":
            return self
        examples = self.examples["train"]
        originals = len(examples) // (2 if self.task.swap_pairs else 1)  # behind them: the swapped
        chosen = drawn(examples[:originals], sizes[0], self.task.split, seed)
        if self.task.swap_pairs:
            chosen += [originals + place for place in chosen]
        return replace(
            self,
            splits=self.splits | {"train": self.splits["train"].of(chosen)},
            examples=self.examples | {"train": [examples[place] for place in chosen]},
        )

    def labeled(self, split: str) -> bool:
        """Return whether every example of a split can be scored."""
        return all(example.label is not None for example in self.examples[split])

    def named(self, index: float) -> str:
        """Return the class that an index stands for."""
        return self.class_names[int(index)]


@dataclass(frozen=True)
class LabeledBatch:
    """Rows padded to one length.

    ``attention_mask_BL`` is None where no row is padded: the encoder is faster without it.
    ``labels`` is [B], or [B, X] for rows with a list of labels, filled up with ``IGNORED``.
    """

    input_ids_BL: Tensor
    token_type_ids_BL: Tensor
    attention_mask_BL: Tensor | None
    labels: Tensor
    rows: list[int]

    def to(self, device: torch.device) -> "LabeledBatch":
        """Return the batch with its tensors on ``device``."""
        moved: dict[str, Any] = {
            item.name: getattr(self, item.name).to(device)
            for item in fields(self)
            if isinstance(getattr(self, item.name), Tensor)
        }
        return replace(self, **moved)


def framed(parts: list[list[int]], tokenizer: Tokenizer) -> Framed:
    """Return ids and types of [CLS] A [SEP] or [CLS] A [SEP] B [SEP], type 1 from B on."""
    ids, types = [tokenizer.cls_id], [0]
    for segment, part in enumerate(parts):
        ids += [*part, tokenizer.sep_id]
        types += [segment] * (len(part) + 1)
    return ids, types


def training_batches(data: TaskData, generator: torch.Generator) -> Iterator[LabeledBatch]:
    """Yield one epoch in random order, in batches of rows of similar length."""
    features, size = data.splits["train"], data.task.recipe.batch_size
    order = torch.randperm(len(features), generator=generator).tolist()
    pools = [order[i : i + POOL_BATCHES * size] for i in range(0, len(order), POOL_BATCHES * size)]
    batches = [batch for pool in pools for batch in _by_length(features, pool, size)]
    for index in torch.randperm(len(batches), generator=generator).tolist():
        yield collate(features, batches[index], data.pad_id)


def evaluation_batches(data: TaskData, split: str, size: int = 64) -> Iterator[LabeledBatch]:
    """Yield every row of a split once, ordered by length."""
    features = data.splits[split]
    for rows in _by_length(features, list(range(len(features))), size):
        yield collate(features, rows, data.pad_id)


def collate(features: Features, rows: list[int], pad_id: int) -> LabeledBatch:
    """Pad the given rows to the longest of them."""
    lengths = [len(features.input_ids[row]) for row in rows]
    longest = max(lengths)
    labels = [features.labels[row] for row in rows]
    listed = isinstance(labels[0], list)
    real_BL = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return LabeledBatch(
        input_ids_BL=_padded([features.input_ids[row] for row in rows], pad_id),
        token_type_ids_BL=_padded([features.token_type_ids[row] for row in rows], 0),
        attention_mask_BL=None if min(lengths) == longest else real_BL,
        labels=_padded(labels, IGNORED) if listed else torch.tensor(labels),
        rows=rows,
    )


def _padded(sequences: list[list[int]], value: int) -> Tensor:
    longest = max(map(len, sequences))
    return torch.tensor([row + [value] * (longest - len(row)) for row in sequences])


def _by_length(features: Features, rows: list[int], size: int) -> list[list[int]]:
    ordered = sorted(rows, key=lambda row: len(features.input_ids[row]))
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]
