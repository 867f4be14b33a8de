"""How well a model takes a sentence: scores without labels and without fine-tuning.

``discriminator``: the sum over the tokens of log P(original), by a replaced-token discriminator.
``pll``: pseudo-log-likelihood, the sum over the tokens of log P(token | all others), each masked in
a copy of the sentence (Salazar et al. 2020), by a masked language model or a generator.

Sums are over the sentence's own tokens, without [CLS] and [SEP], in float64.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import PretrainingConfig
from convbert.models.errors import UserError
from convbert.models.pretraining import MaskedLanguageModel, ReplacedTokenModel
from convbert.pretrain.settings.evaluation import Score

BATCH_TOKENS = 16_384  # of a forward pass, padding included
Model = ReplacedTokenModel | MaskedLanguageModel


def scores_of(networks: PretrainingConfig) -> tuple[Score, ...]:
    """Return the scores that networks can give, the cheapest first."""
    return ("discriminator", "pll") if networks.objective == "rtd" else ("pll",)


def choose(networks: PretrainingConfig, wanted: Sequence[Score], option: str) -> tuple[Score, ...]:
    """Return the scores wanted, or the cheapest of the networks.

    Raises ``UserError``, which names the ``option``, where they cannot give one.
    """
    able = scores_of(networks)
    if unable := [score for score in wanted if score not in able]:
        raise UserError(f"{option} {unable[0]}: this model gives {', '.join(able)} only")
    return tuple(wanted) or able[:1]


@dataclass(frozen=True)
class Share:
    """One process's part of the batches; all processes go through equally many of them.

    ``report`` is called with the part of its work that each batch was.
    """

    rank: int = 0
    world: int = 1
    report: Callable[[float], None] = lambda share: None

    def of(self, every: Sequence[list[int]]) -> Iterator[tuple[list[int], bool]]:
        """Yield batches, and whether each is this process's to count: the last may be a spare."""
        turns = -(-len(every) // self.world)
        for turn in range(turns):
            number = turn * self.world + self.rank
            yield every[number % len(every)], number < len(every)
            self.report(1 / turns)


@torch.no_grad()
def score_rows(
    model: Model,
    score: Score,
    rows: Sequence[Sequence[int]],
    tokenizer: Tokenizer,
    *,
    together: bool = False,
    report: Callable[[float], None] = lambda share: None,
) -> list[float]:
    """Return the score of each row of ids, special tokens included, in the order given.

    With ``together`` all processes of a run call it and share the work, also where ZeRO left each
    of them only a part of the parameters. ``report`` is called with shares of the work.
    """
    share = Share(dist.get_rank(), dist.get_world_size()) if together else Share(report=report)
    training = model.training
    model.eval()
    try:
        found = _SCORES[score](model, rows, tokenizer, share)
    finally:
        model.train(training)
    if together:
        dist.all_reduce(found)
    return found.tolist()


def batches(lengths: Sequence[int], budget: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """Yield the numbers of rows to read at once: of similar length, at most ``budget`` tokens."""
    batch: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda n: (lengths[n], n)):
        if batch and (len(batch) + 1) * lengths[number] > budget:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids [B, L] and the mask of real tokens."""
    length = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (length - len(row))] for row in rows], device=device)
    real = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=device)
    return ids, real


def _discriminator(
    model: ReplacedTokenModel, rows: Sequence[Sequence[int]], tokenizer: Tokenizer, share: Share
) -> Tensor:
    device = next(model.parameters()).device
    found = torch.zeros(len(rows), dtype=torch.float64, device=device)
    for batch, counts in share.of(list(batches([len(row) for row in rows]))):
        ids, real = _padded([rows[n] for n in batch], tokenizer.pad_id, device)
        logits = model.discriminator_head(model.discriminator(ids, attention_mask=real))
        own = (real == 1) & (ids != tokenizer.cls_id) & (ids != tokenizer.sep_id)
        original = F.logsigmoid(-logits.double()).masked_fill(~own, 0.0).sum(1)
        if counts:
            found[torch.tensor(batch, device=device)] = original
    return found


def _pll(model: Model, rows: Sequence[Sequence[int]], tokenizer: Tokenizer, share: Share) -> Tensor:
    """Mask every token of every row in a copy of its own; copies of many rows share a batch."""
    encoder, head = _masked_lm(model)
    device = next(model.parameters()).device
    special = {tokenizer.cls_id, tokenizer.sep_id}
    copies = [(n, i) for n, row in enumerate(rows) for i, t in enumerate(row) if t not in special]
    found = torch.zeros(len(rows), dtype=torch.float64, device=device)
    for batch, counts in share.of(list(batches([len(rows[n]) for n, _ in copies]))):
        chosen = [copies[index] for index in batch]
        ids, real = _padded([rows[n] for n, _ in chosen], tokenizer.pad_id, device)
        places = torch.tensor([i for _, i in chosen], device=device)
        every = torch.arange(len(chosen), device=device)
        targets = ids[every, places]
        ids[every, places] = tokenizer.mask_id
        hidden = encoder(ids, attention_mask=real)[every, places]
        likely = F.log_softmax(head(hidden).double(), dim=-1)[every, targets]
        if counts:
            found.index_add_(0, torch.tensor([n for n, _ in chosen], device=device), likely)
    return found


def _masked_lm(model: Model) -> tuple[nn.Module, nn.Module]:
    if isinstance(model, ReplacedTokenModel):
        return model.generator, model.generator_head
    return model.encoder, model.head


_SCORES: dict[Score, Callable[..., Tensor]] = {"discriminator": _discriminator, "pll": _pll}
