"""From labelled texts to padded batches of ids.

Shapes: B rows, L positions (the longest of the batch).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from convbert.data_pipeline.tokenizer import Tokenizer
from convbert.pretrain.finetune.reading import Example, read_examples
from convbert.pretrain.finetune.task import TaskSpec

# Rows are sorted by length inside pools of this many batches: long enough that batches hardly
# need padding, short enough that their composition stays random.
POOL_BATCHES = 32


@dataclass(frozen=True)
class Features:
    """Encoded rows of one split; ``labels`` are NaN where there is none."""

    input_ids: list[list[int]]
    token_type_ids: list[list[int]]
    labels: list[float]

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def labelled(self) -> bool:
        """Whether every row can be scored."""
        return not any(math.isnan(label) for label in self.labels)


@dataclass(frozen=True)
class TaskData:
    """A task made ready for an encoder of one vocabulary: plain lists, cheap to hand to workers."""

    task: TaskSpec
    class_names: list[str]
    pad_id: int
    vocab_size: int
    splits: dict[str, Features]

    @property
    def num_outputs(self) -> int:
        """Width of the task head."""
        return len(self.class_names) if self.task.kind == "classification" else 1


@dataclass(frozen=True)
class LabelledBatch:
    """``attention_mask_BL`` is None where no row is padded, which the encoder runs faster."""

    input_ids_BL: Tensor
    token_type_ids_BL: Tensor
    attention_mask_BL: Tensor | None
    labels_B: Tensor
    rows: list[int]

    def to(self, device: torch.device) -> "LabelledBatch":
        """Return the batch with its tensors on ``device``."""
        moved = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if isinstance(getattr(self, field.name), Tensor)
        }
        return replace(self, **moved)


def prepare(task: TaskSpec, tokenizer: Tokenizer) -> TaskData:
    """Read and encode the task's files; raises ``UserError`` for unusable ones."""
    splits, names = read_examples(task)
    if task.swap_pairs:
        swapped = [Example(e.texts[::-1], e.label) for e in splits["train"]]
        splits["train"] = splits["train"] + swapped
    features = {split: encode(examples, tokenizer, task) for split, examples in splits.items()}
    return TaskData(task, names, tokenizer.pad_id, tokenizer.vocab_size, features)


def encode(examples: list[Example], tokenizer: Tokenizer, task: TaskSpec) -> Features:
    """Encode as [CLS] A [SEP] or [CLS] A [SEP] B [SEP], type 1 from B on, cut to the maximum."""
    columns = [
        tokenizer.encode_batch([example.texts[i] for example in examples])
        for i in range(len(task.text))
    ]
    room = task.recipe.max_length - 1 - len(columns)
    input_ids, types = [], []
    for parts in zip(*columns, strict=True):
        row, row_types = [tokenizer.cls_id], [0]
        for segment, ids in enumerate(truncate(parts, room)):
            row += [*ids, tokenizer.sep_id]
            row_types += [segment] * (len(ids) + 1)
        input_ids.append(row)
        types.append(row_types)
    labels = [float("nan") if e.label is None else e.label for e in examples]
    return Features(input_ids, types, labels)


def truncate(parts: tuple[list[int], ...], room: int) -> list[list[int]]:
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


def training_batches(data: TaskData, generator: torch.Generator) -> Iterator[LabelledBatch]:
    """Yield one epoch in random order, in batches of rows of similar length."""
    features, size = data.splits["train"], data.task.recipe.batch_size
    order = torch.randperm(len(features), generator=generator).tolist()
    pools = [order[i : i + POOL_BATCHES * size] for i in range(0, len(order), POOL_BATCHES * size)]
    batches = [batch for pool in pools for batch in _by_length(features, pool, size)]
    for index in torch.randperm(len(batches), generator=generator).tolist():
        yield collate(features, batches[index], data.pad_id)


def evaluation_batches(data: TaskData, split: str, size: int = 64) -> Iterator[LabelledBatch]:
    """Yield every row of a split once, ordered by length."""
    features = data.splits[split]
    for rows in _by_length(features, list(range(len(features))), size):
        yield collate(features, rows, data.pad_id)


def collate(features: Features, rows: list[int], pad_id: int) -> LabelledBatch:
    """Pad the given rows to the longest of them."""
    lengths = [len(features.input_ids[row]) for row in rows]
    longest = max(lengths)

    def padded(sequences: list[list[int]], value: int) -> Tensor:
        return torch.tensor(
            [sequences[row] + [value] * (longest - len(sequences[row])) for row in rows]
        )

    real_BL = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return LabelledBatch(
        input_ids_BL=padded(features.input_ids, pad_id),
        token_type_ids_BL=padded(features.token_type_ids, 0),
        attention_mask_BL=None if min(lengths) == longest else real_BL,
        labels_B=torch.tensor([features.labels[row] for row in rows]),
        rows=rows,
    )


def _by_length(features: Features, rows: list[int], size: int) -> list[list[int]]:
    ordered = sorted(rows, key=lambda row: len(features.input_ids[row]))
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]
