"""Weights from the TensorFlow checkpoints of the original ConvBERT, ELECTRA and BERT code.

The originals let padding leak into the convolution, so what is imported does too
(``mask_conv_padding`` off): its hidden states are those of the released model.
"""

import re
from pathlib import Path

from torch import nn

from convbert.models.architecture import EncoderConfig, PretrainingConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.links import Link, import_tensors, refuse_unused, unfilled
from convbert.models.interop.naming import (
    TENSORFLOW,
    MaskedLMNames,
    body_links,
    discriminator_head_links,
    embedding_links,
    encoder_links,
    masked_lm_head_links,
)
from convbert.models.interop.tf_bundle import TensorBundle
from convbert.models.pretraining import MaskedLanguageModel, PretrainingModel, build_model

_ELECTRA, _BERT, _GENERATOR = "electra", "bert", "generator"
_ELECTRA_HEAD = MaskedLMNames("generator_predictions", "generator_predictions/output_bias")
_BERT_HEAD = MaskedLMNames("cls/predictions/transform", "cls/predictions/output_bias")
_OPTIMIZER = re.compile(r"/adam_[mv]$")


def load_networks(prefix: str | Path, config: PretrainingConfig) -> PretrainingModel | Encoder:
    """Return all networks of a pretraining checkpoint, or its encoder where that is alone.

    An encoder is alone where the checkpoint has no variable of a generator, or of BERT's masked-LM
    head. A network that is there and cannot be read is an error, as in ``load_checkpoint``.
    """
    scopes = ("cls/predictions/",) if config.generator is None else (_GENERATOR,)
    if any(name.startswith(scopes) for name in TensorBundle(_without_suffix(prefix))):
        return load_checkpoint(prefix, config)
    return load_encoder(prefix, config.discriminator)


def load_checkpoint(prefix: str | Path, config: PretrainingConfig) -> PretrainingModel:
    """Return the networks of a pretraining checkpoint, for further pretraining.

    ``prefix`` is the checkpoint's path without ``.index``, such as DIR/model.ckpt-1000000. With
    objective ``rtd`` it is read as ConvBERT's or ELECTRA's, with ``mlm`` as BERT's. Optimizer
    state and the step are not read. Raises ``UserError`` naming file and tensor when the
    checkpoint is damaged or does not fit ``config``.
    """
    bundle = TensorBundle(_without_suffix(prefix))
    _require_scope(bundle, _BERT if config.generator is None else _ELECTRA)
    model = unfilled(lambda: build_model(_leaking(config)))
    parts = _parts(model)
    refuse_unused([link for _, links in parts for link in links], bundle, _is_model_weight)
    for module, links in parts:
        import_tensors(links, module, bundle)
    return model


def load_encoder(prefix: str | Path, config: EncoderConfig) -> Encoder:
    """Return the discriminator, or BERT's encoder, of a pretrained or fine-tuned checkpoint.

    The arguments and errors are those of ``load_checkpoint``; heads and generator may be absent.
    """
    bundle = TensorBundle(_without_suffix(prefix))
    scope = _ELECTRA if any(name.startswith(f"{_ELECTRA}/") for name in bundle) else _BERT
    _require_scope(bundle, scope)
    config = config.model_copy(update={"mask_conv_padding": False})
    links = encoder_links(TENSORFLOW, config, scope)
    body = (f"{scope}/embeddings", f"{scope}/encoder/")
    refuse_unused(links, bundle, lambda name: name.startswith(body) and _is_model_weight(name))
    encoder = unfilled(lambda: Encoder(config))
    import_tensors(links, encoder, bundle)
    return encoder.eval()


def _without_suffix(prefix: str | Path) -> Path:
    path = Path(prefix)
    return path.with_suffix("") if path.suffix == ".index" else path


def _require_scope(bundle: TensorBundle, scope: str) -> None:
    if not any(name.startswith(f"{scope}/") for name in bundle):
        first = min(bundle, default="nothing at all")
        raise UserError(
            f"{bundle.path}: no variable lies under {scope}/ (the first is {first!r}): give a "
            f"checkpoint written by the original {scope.upper()} or ConvBERT code"
        )


def _leaking(config: PretrainingConfig) -> PretrainingConfig:
    off = {"mask_conv_padding": False}
    discriminator = config.discriminator.model_copy(update=off)
    generator = config.generator and config.generator.model_copy(update=off)
    return config.model_copy(update={"discriminator": discriminator, "generator": generator})


def _parts(model: PretrainingModel) -> list[tuple[nn.Module, list[Link]]]:
    """Return the networks and heads with their links.

    Tied embeddings are one module in two encoders, filled twice from the same tensors.
    """
    if isinstance(model, MaskedLanguageModel):
        return [
            (model.encoder, encoder_links(TENSORFLOW, model.encoder.config, _BERT)),
            (model.head, masked_lm_head_links(TENSORFLOW, _BERT_HEAD)),
        ]
    embeddings = _ELECTRA if model.config.tie_embeddings else _GENERATOR
    generator = [
        *embedding_links(TENSORFLOW, embeddings),
        *body_links(TENSORFLOW, model.generator.config, _GENERATOR),
    ]
    return [
        (model.discriminator, encoder_links(TENSORFLOW, model.discriminator.config, _ELECTRA)),
        (model.discriminator_head, discriminator_head_links(TENSORFLOW, last="dense_1")),
        (model.generator, generator),
        (model.generator_head, masked_lm_head_links(TENSORFLOW, _ELECTRA_HEAD)),
    ]


def _is_model_weight(name: str) -> bool:
    """Leave out the optimizer's state and the parts of BERT that are not pretrained here."""
    scopes = (f"{_ELECTRA}/", f"{_GENERATOR}/", f"{_BERT}/embeddings", f"{_BERT}/encoder/")
    return name.startswith(scopes) and not _OPTIMIZER.search(name)
