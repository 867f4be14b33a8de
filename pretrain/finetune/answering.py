"""Extractive question answering: the context is read in overlapping windows.

Shapes: B rows, L positions, K starts that are followed.
"""

import logging
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convbert.data_pipeline.tokenizer.hugging_face import fast_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.pretrain.finetune.answer_head import SpanScores
from convbert.pretrain.finetune.answer_metrics import Answer
from convbert.pretrain.finetune.data import IGNORED, Features, LabeledBatch, TaskData, framed
from convbert.pretrain.finetune.reading import Example
from convbert.pretrain.finetune.recipe import AnswerConfig
from convbert.pretrain.finetune.task import TaskSpec

log = logging.getLogger(__name__)

_STRIDE = 128


@dataclass(frozen=True)
class Window:
    """The part of the context that a row holds.

    ``offset`` is the row's position of its first token. For each of its tokens, ``spans`` holds
    the first character in the context and the end, and ``central`` whether no other window shows
    more context around it.
    """

    offset: int
    spans: list[tuple[int, int]]
    central: list[bool]


@dataclass(frozen=True)
class Candidates:
    """The best spans (score, first character, end) of one row, and its null odds."""

    null_odds: float
    spans: list[tuple[float, int, int]]


def encode(task: TaskSpec, tokenizer: Tokenizer, examples: list[Example]) -> Features:
    """Encode as [CLS] question [SEP] part of the context [SEP], one row for each window.

    The labels of a row are start, end, and 1 where it holds no answer; the last is ignored in a
    task where every question has one.
    """
    recipe = task.recipe
    questions = [
        ids[: recipe.qa.max_query]
        for ids in tokenizer.encode_batch([example.texts[0] for example in examples])
    ]
    contexts = _encode_contexts(tokenizer, [example.texts[1] for example in examples])
    unanswerable = any(example.label == () for example in examples)
    found = Features()
    outside = 0
    for owner, (example, question) in enumerate(zip(examples, questions, strict=True)):
        ids, spans = contexts[example.texts[1]]
        room = recipe.max_length - len(question) - 3
        if room < 1:
            raise UserError(
                f"task {task.name}: recipe.max_length={recipe.max_length} leaves no room beside a "
                f"question of {len(question)} tokens; raise it or lower recipe.qa.max_query"
            )
        parts = windows(len(ids), room, step(recipe.qa, room))
        answer = _tokens(example, spans)
        outside += bool(example.label) and not _inside(answer, parts)
        for index, (first, length) in enumerate(parts):
            row = framed([question, ids[first : first + length]], tokenizer)
            offset = len(question) + 2
            label = _label(answer, example, first, length, offset)
            if not unanswerable:
                label[2] = IGNORED
            central = [_central(parts, index, first + i) for i in range(length)]
            window = Window(offset, spans[first : first + length], central)
            found.add(row, label, owner, window)
    if outside:
        log.warning(
            f"task {task.name}: {outside:,} answers lie in no window, so their questions train as "
            "unanswerable; raise recipe.max_length, or lower recipe.qa.stride"
        )
    return found


def step(config: AnswerConfig, room: int) -> int:
    """Return the tokens from one window of ``room`` tokens to the next.

    The default is ELECTRA's 128 where windows overlap by all but one token of the longest answer,
    less in shorter windows: cut windows lose every answer that lies across a border.
    """
    if config.stride is not None:
        return config.stride
    longest = room - config.max_answer + 1
    return min(_STRIDE, longest if longest > 0 else max(1, room // 2))


def _inside(answer: tuple[int, int] | None, parts: list[tuple[int, int]]) -> bool:
    """Return whether one of the windows holds an answer's first and last token."""
    return answer is not None and any(
        first <= answer[0] and answer[1] < first + length for first, length in parts
    )


def _encode_contexts(
    tokenizer: Tokenizer, contexts: list[str]
) -> dict[str, tuple[list[int], list[tuple[int, int]]]]:
    """Return ids and character spans, without the space in front, of every distinct context."""
    distinct = list(dict.fromkeys(contexts))
    fast = fast_tokenizer(tokenizer)
    fast.encode_special_tokens = True  # what they spell stays text, as in questions
    encoded = fast.encode_batch(distinct, add_special_tokens=False)
    return {
        context: (list(entry.ids), [_trimmed(context, span) for span in entry.offsets])
        for context, entry in zip(distinct, encoded, strict=True)
    }


def _trimmed(context: str, span: tuple[int, int]) -> tuple[int, int]:
    first, last = span
    while first < last and context[first].isspace():
        first += 1
    return first, last


def windows(count: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Cut ``count`` tokens into (first, length) of at most ``room``, ``stride`` apart."""
    found = [(0, min(count, room))]
    while sum(found[-1]) < count:
        first = found[-1][0] + min(found[-1][1], stride)
        found.append((first, min(count - first, room)))
    return found


def _central(parts: list[tuple[int, int]], index: int, token: int) -> bool:
    """Return whether window ``index`` shows the most context on both sides of a token."""
    if len(parts) == 1:
        return True

    def context(part: tuple[int, int]) -> float:
        first, length = part
        if not first <= token < first + length:
            return -1.0
        return min(token - first, first + length - 1 - token) + 0.01 * length

    scores = [context(part) for part in parts]
    return scores.index(max(scores)) == index


def _tokens(example: Example, spans: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the first and last token of the first answer."""
    if not example.label:
        return None
    text, start = example.label[0]
    end = start + max(1, len(text))
    touched = [i for i, (first, last) in enumerate(spans) if last > start and first < end]
    return (touched[0], touched[-1]) if touched else None


def _label(
    answer: tuple[int, int] | None, example: Example, first: int, length: int, offset: int
) -> list[int]:
    if example.label is None:
        return [IGNORED] * 3
    if answer is None or not (first <= answer[0] and answer[1] < first + length):
        return [0, 0, 1]
    return [offset + answer[0] - first, offset + answer[1] - first, 0]


def loss(task: TaskSpec, scores: SpanScores, batch: LabeledBatch) -> Tensor:
    """Return the mean cross-entropy of start and end, plus that of answerability where known."""
    start_B, end_B, impossible_B = batch.labels.unbind(1)
    start = F.cross_entropy(scores.start_BL, start_B)
    end = F.cross_entropy(scores.end_BKL[:, 0], end_B)
    total = (start + end) / 2
    known_B = impossible_B != IGNORED
    if scores.impossible_B is not None and bool(known_B.any()):
        total = total + task.recipe.qa.answerable_weight * F.binary_cross_entropy_with_logits(
            scores.impossible_B[known_B], impossible_B[known_B].float()
        )
    return total


def decode(data: TaskData, split: str, scores: SpanScores, batch: LabeledBatch) -> list[Any]:
    """Return the ``Candidates`` of each row: P(start) P(end | start), most likely first."""
    config = data.task.recipe.qa
    start_BL, end_BKL = scores.start_BL.log_softmax(1), scores.end_BKL.log_softmax(2)
    joint_BKL = start_BL.gather(1, scores.starts_BK)[:, :, None] + end_BKL
    distance_BKL = (
        torch.arange(start_BL.shape[1], device=start_BL.device) - scores.starts_BK[:, :, None]
    )
    fits_BKL = (distance_BKL >= 0) & (distance_BKL < config.max_answer)
    found = []
    for index, row in enumerate(batch.rows):
        window: Window = data.splits[split].places[row]
        allowed_L = torch.zeros(start_BL.shape[1], dtype=torch.bool, device=start_BL.device)
        central = torch.tensor(window.central, dtype=torch.bool, device=start_BL.device)
        allowed_L[window.offset : window.offset + len(central)] = central
        fits_KL = fits_BKL[index] & allowed_L[scores.starts_BK[index]][:, None]
        fits_KL[:, window.offset + len(central) :] = False
        values = joint_BKL[index].masked_fill(~fits_KL, -torch.inf).flatten()
        best = values.topk(min(config.n_best, len(values)))
        spans = []
        for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            if score > -float("inf"):
                follow, end = divmod(place, start_BL.shape[1])
                first = int(scores.starts_BK[index, follow]) - window.offset
                last = end - window.offset
                spans.append((score, window.spans[first][0], window.spans[last][1]))
        found.append(Candidates(_null_odds(scores, index, spans, start_BL, end_BKL), spans))
    return found


def _null_odds(
    scores: SpanScores,
    index: int,
    spans: list[tuple[float, int, int]],
    start_BL: Tensor,
    end_BKL: Tensor,
) -> float:
    """Return the logit of "no answer", or how much likelier [CLS] is than the best span."""
    if scores.impossible_B is not None:
        return float(scores.impossible_B[index])
    null = float(start_BL[index, 0] + end_BKL[index, 0, 0])
    return null - spans[0][0] if spans else float("inf")


def collect(data: TaskData, split: str, rows: list[Any]) -> list[Any]:
    """Join the windows of every question into an ``Answer``."""
    examples = data.examples[split]
    gathered: list[list[Candidates]] = [[] for _ in examples]
    for owner, candidates in zip(data.splits[split].owners, rows, strict=True):
        gathered[owner].append(candidates)
    unanswerable = any(example.label == () for example in data.examples["train"])
    config = data.task.recipe.qa
    return [
        _answer(example.texts[1], parts, config.n_best, config.null_threshold, unanswerable)
        for example, parts in zip(examples, gathered, strict=True)
    ]


def _answer(
    context: str, parts: list[Candidates], count: int, threshold: float, unanswerable: bool
) -> Answer:
    spans = sorted((span for part in parts for span in part.spans), key=lambda s: -s[0])
    scored: dict[str, float] = {}
    for score, first, end in spans:
        scored.setdefault(context[first:end], score)
    n_best = tuple(list(scored.items())[:count])
    best = n_best[0][0] if n_best else ""
    odds = min(part.null_odds for part in parts)
    return Answer("" if unanswerable and odds > threshold else best, best, odds, n_best)


def gold(data: TaskData, split: str) -> list[Any]:
    """Return the gold answers' texts of every question; none for one without an answer."""
    return [[text for text, _ in example.label] for example in data.examples[split]]
