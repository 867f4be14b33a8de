"""Models to and from Hugging Face directories, without transformers and without running code.

The main directory holds the encoder that is fine-tuned; the generator of replaced-token detection
lies beside it in ``generator/``, as a masked language model of its own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import AbsentError, UserError
from convbert.models.interop.hf_config import (
    BERT,
    CONFIG_FILE,
    CONVBERT,
    ELECTRA,
    GENERATOR_DIRECTORY,
    Family,
    read_config,
    refusal,
    to_transformers,
)
from convbert.models.interop.hf_files import (
    SAFETENSORS_FILE,
    read_safetensors,
    read_weights,
    write_safetensors,
    write_text,
)
from convbert.models.interop.links import (
    LoadedTensors,
    export_tensors,
    import_tensors,
    refuse_unused,
    unfilled,
)
from convbert.models.interop.model_card import CardFacts, render_card
from convbert.models.interop.naming import (
    TRANSFORMERS,
    discriminator_head_links,
    embedding_links,
    encoder_links,
    masked_lm_head_links,
)
from convbert.models.pretraining import (
    MaskedLanguageModel,
    PretrainingModel,
    ReplacedTokenModel,
    kept_encoder,
)
from convbert.models.schema import read_json, validate

# transformers has no ConvBERT class with a discriminator's head, so it gets a file of its own.
DISCRIMINATOR_HEAD_FILE = "discriminator_head.safetensors"
_DISCRIMINATOR_HEAD_LINKS = discriminator_head_links(TRANSFORMERS, last="dense_prediction")
# Tables that older files carry although they can be derived.
_DERIVED = ("embeddings.position_ids", "embeddings.token_type_ids")


@dataclass(frozen=True)
class Export:
    """What was written: the transformers class of the main directory, and the generator's.

    ``generator`` is None when there is no generator, or when transformers cannot hold it;
    ``generator_refusal`` then says why.
    """

    directory: Path
    architecture: str
    generator: str | None = None
    generator_refusal: str | None = None


@dataclass(frozen=True)
class _Part:
    """What one directory will hold."""

    config: EncoderConfig
    family: Family
    architecture: str
    tensors: Mapping[str, Tensor]
    head: Mapping[str, Tensor] | None = None

    def write(self, directory: Path) -> None:
        fields = to_transformers(self.config, self.family, self.architecture)
        write_safetensors(directory / SAFETENSORS_FILE, self.tensors)
        if self.head is not None:
            write_safetensors(directory / DISCRIMINATOR_HEAD_FILE, self.head)
        write_text(directory / CONFIG_FILE, json.dumps(fields, indent=2) + "\n")


def save_pretrained(
    model: Encoder | PretrainingModel,
    directory: str | Path,
    *,
    model_card: CardFacts | None = None,
) -> Export:
    """Write ``model`` as transformers' models read it: weights, configuration and model card.

    ``model_card`` holds what the card says beside the architecture. The main directory becomes

    - ConvBERT: a ``ConvBertModel``, the discriminator's head in a file beside it;
    - ELECTRA: an ``ElectraForPreTraining``, or an ``ElectraModel`` from an encoder alone;
    - masked language models: a ``BertForMaskedLM``, ``ElectraForMaskedLM`` (embeddings narrower
      than the hidden size) or ``ConvBertForMaskedLM``.

    Raises ``UserError`` when transformers cannot hold the encoder. A generator that it cannot hold
    is left out and reported.
    """
    directory = Path(directory)
    part, generator = _parts(model)
    export = Export(directory, part.architecture)
    if isinstance(generator, str):
        export = replace(export, generator_refusal=generator)
    elif generator is not None:
        export = replace(export, generator=generator.architecture)
        generator.write(directory / GENERATOR_DIRECTORY)
    part.write(directory)
    card = render_card(
        part.config,
        part.architecture,
        model_card or CardFacts(str(directory)),
        generator=export.generator,
        generator_refusal=export.generator_refusal,
    )
    write_text(directory / "README.md", card)
    return export


def load_pretrained(directory: str | Path) -> Encoder:
    """Return the encoder in a Hugging Face directory of ConvBERT, ELECTRA or BERT, in eval mode.

    Task models are read without their heads, and files with or without the model's prefix. Weights
    that other software wrote get ``mask_conv_padding`` off, which is how transformers computes.
    Raises ``UserError`` naming file and tensor or key when something is missing, damaged, or does
    not fit.
    """
    directory = Path(directory)
    config, family, _ = read_config(directory)
    encoder = unfilled(lambda: Encoder(config))
    _fill_encoder(encoder, read_weights(directory), family)
    return encoder.eval()


def load_networks(directory: str | Path) -> PretrainingModel | Encoder:
    """Return all networks of pretraining in a directory, or its encoder where that is alone.

    An encoder is alone where its class has no masked-LM head and no generator lies beside it. A
    generator or head that is there and cannot be read is an error, as in
    ``load_pretraining_model``.
    """
    directory = Path(directory)
    _, family, architecture = read_config(directory)
    if architecture == family.masked_lm_class or (directory / GENERATOR_DIRECTORY).exists():
        return load_pretraining_model(directory)
    return load_pretrained(directory)


def load_pretraining_model(directory: str | Path) -> PretrainingModel:
    """Return all networks of a directory that ``save_pretrained`` wrote, to go on pretraining.

    Raises ``AbsentError`` when there is no generator, and ``UserError`` as ``load_pretrained``
    does for every network.
    """
    directory = Path(directory)
    config, family, architecture = read_config(directory)
    source = read_weights(directory)
    if architecture == family.masked_lm_class:
        single = PretrainingConfig(objective="mlm", discriminator=config)
        model = unfilled(lambda: MaskedLanguageModel(single))
        _fill_encoder(model.encoder, source, family)
        _fill_head(model.head, directory, source, family)
        return model
    return _load_replaced_token_model(directory, config, family, source)


def _load_replaced_token_model(
    directory: Path, config: EncoderConfig, family: Family, source: LoadedTensors
) -> ReplacedTokenModel:
    beside = directory / GENERATOR_DIRECTORY
    if not beside.exists():
        raise AbsentError(
            f"{beside}: no generator there, so pretraining cannot go on from {directory}: "
            "load its encoder alone"
        )
    generator_config, generator_family, _ = read_config(beside)
    generator_source = read_weights(beside)
    head_source = source
    if family is CONVBERT:
        head_source = read_safetensors(directory / DISCRIMINATOR_HEAD_FILE)
    pair = validate(
        PretrainingConfig,
        {
            "discriminator": config,
            "generator": generator_config,
            "tie_embeddings": _same_embeddings(source, family, generator_source, generator_family),
        },
        beside / CONFIG_FILE,
    )
    model = unfilled(lambda: ReplacedTokenModel(pair))
    _fill_encoder(model.discriminator, source, family)
    import_tensors(_DISCRIMINATOR_HEAD_LINKS, model.discriminator_head, head_source)
    _fill_encoder(model.generator, generator_source, generator_family)
    _fill_head(model.generator_head, beside, generator_source, generator_family)
    return model


def _same_embeddings(
    one: LoadedTensors, one_family: Family, other: LoadedTensors, other_family: Family
) -> bool:
    """Return whether two models share their embeddings, which their files hold twice."""
    names = (
        [link.foreign[0] for link in embedding_links(TRANSFORMERS, _scope(source, family))]
        for source, family in ((one, one_family), (other, other_family))
    )
    return all(
        ours in one and theirs in other and torch.equal(one.read(ours), other.read(theirs))
        for ours, theirs in zip(*names, strict=True)
    )


def _fill_encoder(encoder: Encoder, source: LoadedTensors, family: Family) -> None:
    scope = _scope(source, family)
    links = encoder_links(TRANSFORMERS, encoder.config, scope)
    body = tuple(TRANSFORMERS.path(scope, part) for part in ("embeddings", "encoder."))
    refuse_unused(links, source, lambda name: name.startswith(body) and not name.endswith(_DERIVED))
    import_tensors(links, encoder, source)


def _fill_head(head: nn.Module, directory: Path, source: LoadedTensors, family: Family) -> None:
    """Fill a masked-LM head; refuses one whose vocabulary matrix is not the word table."""
    matrix = TRANSFORMERS.path(family.masked_lm_head.matrix)
    word = TRANSFORMERS.path(_scope(source, family), "embeddings/word_embeddings/weight")
    # Where they are tied, transformers does not read the matrix either.
    untied = read_json(directory / CONFIG_FILE).get("tie_word_embeddings") is False
    if untied and matrix in source and not torch.equal(source.read(matrix), source.read(word)):
        raise UserError(
            f"{source.path}: tensor {matrix!r} is not {word!r}, and a head here has no matrix of "
            "its own: take the encoder alone, by an encoder's class in config.json's architectures "
            f"({family.encoder_class})"
        )
    import_tensors(masked_lm_head_links(TRANSFORMERS, family.masked_lm_head), head, source)


def _scope(source: LoadedTensors, family: Family) -> str:
    """Return the prefix of the encoder's tensors: the model's name in files of task models."""
    for scope in (family.model_type, ""):
        if TRANSFORMERS.path(scope, "embeddings/word_embeddings/weight") in source:
            return scope
    raise UserError(
        f"{source.path}: no tensor 'embeddings.word_embeddings.weight', with or without the "
        f"prefix '{family.model_type}.': the file does not hold a {family.model_type} encoder"
    )


def _parts(model: Encoder | PretrainingModel) -> tuple[_Part, _Part | str | None]:
    """Return the main directory, and the generator's or why there is none."""
    config = model.config if isinstance(model, Encoder) else model.config.discriminator
    reason = refusal(config)
    if reason is not None:
        raise UserError(f"cannot be exported to Hugging Face: {reason}")
    if isinstance(model, ReplacedTokenModel):
        return _replaced_token_parts(model)
    if isinstance(model, MaskedLanguageModel):
        return _masked_language_part(model), None
    return _encoder_part(model), None


def _encoder_part(encoder: Encoder) -> _Part:
    family = CONVBERT if encoder.config.local_op == "sdconv" else ELECTRA
    tensors = export_tensors(encoder_links(TRANSFORMERS, encoder.config), encoder)
    return _Part(encoder.config, family, family.encoder_class, tensors)


def _masked_lm_part(encoder: Encoder, head: nn.Module, family: Family) -> _Part:
    links = encoder_links(TRANSFORMERS, encoder.config, family.model_type)
    head_links = masked_lm_head_links(TRANSFORMERS, family.masked_lm_head)
    tensors = export_tensors(links, encoder) | export_tensors(head_links, head)
    return _Part(encoder.config, family, family.masked_lm_class, tensors)


def _masked_language_part(model: MaskedLanguageModel) -> _Part:
    config = model.encoder.config
    plain = BERT if config.embedding_size == config.hidden_size else ELECTRA
    family = CONVBERT if config.local_op == "sdconv" else plain
    return _masked_lm_part(model.encoder, model.head, family)


def _replaced_token_parts(model: ReplacedTokenModel) -> tuple[_Part, _Part | str]:
    discriminator = kept_encoder(model)
    config = discriminator.config
    head = export_tensors(_DISCRIMINATOR_HEAD_LINKS, model.discriminator_head)
    if config.local_op == "sdconv":
        part = replace(_encoder_part(discriminator), head=head)
    else:
        links = encoder_links(TRANSFORMERS, config, ELECTRA.model_type)
        tensors = export_tensors(links, discriminator) | head
        part = _Part(config, ELECTRA, "ElectraForPreTraining", tensors)
    reason = refusal(model.generator.config)
    if reason is not None:
        return part, reason
    return part, _masked_lm_part(model.generator, model.generator_head, part.family)
