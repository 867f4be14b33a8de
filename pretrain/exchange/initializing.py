"""Start a run from the weights of a directory: ``model.init_from``."""

import logging
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor

from convbert.data_pipeline.tokenizer.encoders import MODEL, VOCABULARY
from convbert.data_pipeline.tokenizer.hugging_face import TRICKY
from convbert.data_pipeline.tokenizer.settings import FAST
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.hf import GENERATOR_DIRECTORY
from convbert.models.interop.hf_config import read_config
from convbert.models.pretraining import (
    MaskedLanguageModel,
    PretrainingModel,
    ReplacedTokenModel,
    disentangled,
)
from convbert.pretrain.exchange.comparing import require_same
from convbert.pretrain.exchange.importing import encoder_of, read_networks
from convbert.pretrain.settings.model import Adaptation
from convbert.pretrain.settings.run import RunConfig

logger = logging.getLogger(__name__)


def initialize_from(
    model: PretrainingModel,
    source: Path,
    adapt: Collection[Adaptation] = (),
    tokenizer: Tokenizer | None = None,
) -> None:
    """Overwrite fresh networks with those of a directory; what it does not hold stays fresh.

    ``adapt`` names the differences that are adapted: ``layers`` drops the upper ones, ``positions``
    repeats or cuts the position table, ``vocabulary`` keeps the rows that both have, ``padding``
    changes whether padding leaks into the convolution, ``generator`` starts with a new one.
    ``tokenizer`` is the run's. With ``gdes`` the differences become those of the two networks'
    tables; where the encoder is alone, its tables are shared and the differences zero.

    Raises ``UserError`` as ``read_networks`` does, for networks that compute something else, for
    another tokenizer, and where one tensor would have to hold the different tables of two networks.
    """
    if tokenizer is not None:
        _require_tokenizer(source, tokenizer, adapt)
    found = read_networks(source)
    _require_networks(model, found, adapt, source)
    weights = _by_name(model, found, adapt, source)
    own = model.state_dict()
    weights = {
        name: _fitted(name, tensor, own, model)
        for name, tensor in weights.items()
        if name in own  # not the layers that are dropped
    }
    _refuse_conflict(own, weights, source)
    if model.config.tie_embeddings == "gdes":
        weights = disentangled(weights)
    model.load_state_dict(weights, strict=False)


def require_start(config: RunConfig) -> None:
    """Raise ``UserError`` where ``initialize_from`` would, as far as it shows without the weights.

    Nothing is refused in a run that starts from nothing.
    """
    source, adapt = config.model.init_from, config.model.adapt
    if source is None:
        return
    tokenizer = Tokenizer.load(config.data.tokenizer)
    networks = config.model.build(tokenizer.vocab_size)
    _require_tokenizer(source, tokenizer, adapt)
    theirs, family, architecture = read_config(source)
    kept = "encoder" if networks.generator is None else "discriminator"
    require_same(kept, theirs, networks.discriminator, adapt, source)
    beside = source / GENERATOR_DIRECTORY
    single = architecture == family.masked_lm_class
    if networks.generator and not single and beside.exists() and "generator" not in adapt:
        require_same("generator", read_config(beside)[0], networks.generator, adapt, source)


def _require_networks(
    model: PretrainingModel,
    found: PretrainingModel | Encoder,
    adapt: Collection[Adaptation],
    source: Path,
) -> None:
    kept = "encoder" if isinstance(model, MaskedLanguageModel) else "discriminator"
    require_same(kept, encoder_of(found).config, model.config.discriminator, adapt, source)
    if _both(model, found) and "generator" not in adapt:
        theirs, ours = found.config.generator, model.config.generator  # type: ignore[union-attr]
        require_same("generator", theirs, ours, adapt, source)  # type: ignore[arg-type]


def _both(model: PretrainingModel, found: PretrainingModel | Encoder) -> bool:
    return isinstance(model, ReplacedTokenModel) and isinstance(found, ReplacedTokenModel)


def _by_name(
    model: PretrainingModel,
    found: PretrainingModel | Encoder,
    adapt: Collection[Adaptation],
    source: Path,
) -> dict[str, Tensor]:
    """Return the weights that are taken over, by their names in ``model``."""
    if type(found) is type(model) and not (_both(model, found) and "generator" in adapt):
        return found.state_dict()
    if isinstance(model, MaskedLanguageModel):
        logger.warning("%s: its encoder alone is used; the head starts fresh", source)
        return {f"encoder.{name}": t for name, t in encoder_of(found).state_dict().items()}
    named = {f"discriminator.{name}": t for name, t in encoder_of(found).state_dict().items()}
    heads = "generator and heads start"
    if isinstance(found, ReplacedTokenModel):
        head = found.discriminator_head.state_dict()
        named |= {f"discriminator_head.{name}": t for name, t in head.items()}
        heads = "the generator starts"
    logger.warning(
        "%s: its encoder alone is used; %s fresh, and a discriminator learns little from a fresh "
        "generator: objective.generator_warmup=N trains that alone for N updates",
        source,
        heads,
    )
    if model.config.tie_embeddings == "gdes":
        tables = {n: t for n, t in named.items() if n.startswith("discriminator.embeddings.")}
        named |= {n.replace("discriminator", "generator", 1): t for n, t in tables.items()}
    return named


def _fitted(name: str, tensor: Tensor, own: dict[str, Tensor], model: PretrainingModel) -> Tensor:
    """Return a table with as many rows as the model's: positions repeat, new words are fresh."""
    target = own[name]
    if tensor.shape == target.shape:
        return tensor
    rows, wanted = len(tensor), len(target)
    if name.endswith("position.weight"):
        return tensor[torch.arange(wanted) % rows]
    if model.config.tie_embeddings == "gdes":  # there the other network's rows are differences
        target = own[name.replace("discriminator", "generator", 1)]
    return torch.cat([tensor[:wanted], target[rows:].to(tensor)])


def _require_tokenizer(source: Path, ours: Tokenizer, adapt: Collection[Adaptation]) -> None:
    """Refuse ids that mean other tokens than the weights were trained with, where it is known."""
    if not any((source / name).is_file() for name in (MODEL, VOCABULARY, FAST)):
        return
    theirs = Tokenizer.load(source)
    if theirs.digest == ours.digest:
        return
    before, now = theirs.pieces(), ours.pieces()
    common = min(len(before), len(now)) if "vocabulary" in adapt else max(len(before), len(now))
    if before[:common] != now[:common]:
        different = sum(a != b for a, b in zip(before, now, strict=False))
        raise UserError(
            f"{source}: its tokenizer has {len(before):,} tokens, that of the run "
            f"({ours.file}) {len(now):,}, and {different:,} ids mean other tokens: train with its "
            "own, or, where the run's only has more at the end, set model.adapt=[vocabulary]"
        )
    if len(before) == len(now) and theirs.encode_batch(TRICKY) != ours.encode_batch(TRICKY):
        raise UserError(
            f"{source}: its tokenizer has the tokens of {ours.file}, but cuts texts differently "
            "(capitals, accents, or scores): train with its own"
        )


def _refuse_conflict(own: dict[str, Tensor], weights: dict[str, Tensor], source: Path) -> None:
    """Raise ``UserError`` where two tensors that differ would be written into a shared one."""
    first: dict[int, str] = {}
    for name, tensor in weights.items():
        other = first.setdefault(own[name].data_ptr(), name)
        if not torch.equal(tensor, weights[other]):
            raise UserError(
                f"{source}: {other} and {name} differ, and the configuration makes them one; give "
                "each network its own with model.overrides={tie_embeddings: gdes}"
            )
