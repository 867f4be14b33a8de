"""Take over weights from elsewhere: Hugging Face directories and the original TF checkpoints."""

from pathlib import Path

from convbert.data_pipeline.atomic import atomic_directory
from convbert.models.encoder import Encoder
from convbert.models.errors import AbsentError, UserError
from convbert.models.interop import hf, tf
from convbert.models.interop.model_card import CardFacts
from convbert.models.presets import preset
from convbert.models.pretraining import PretrainingModel, kept_encoder
from convbert.pretrain.exchange.export import save_tokenizer
from convbert.pretrain.exchange.tokenizer_import import (
    OWN_TOKENIZER,
    TokenizerChoice,
    fit,
    take_tokenizer,
)

_BERT_IDS = 30_522


def read_networks(
    source: Path, size: str | None = None, vocab_size: int | None = None
) -> PretrainingModel | Encoder:
    """Return all networks of pretraining at ``source``, or the encoder where that is alone.

    ``source`` is a Hugging Face directory, or the prefix of a TensorFlow checkpoint (then
    ``size`` and ``vocab_size``, 30,522 unless given, are what such a checkpoint does not hold).
    Raises ``UserError`` for anything that is there and cannot be read, so a damaged generator is
    never left out.
    """
    if source.is_dir():
        for option, value in (("--size", size), ("--vocab-size", vocab_size)):
            if value is not None:
                raise UserError(f"{option} {value}: {source / 'config.json'} says it; leave it out")
        return hf.load_networks(source)
    if not source.with_name(f"{source.name.removesuffix('.index')}.index").is_file():
        raise AbsentError(
            f"{source}: neither a Hugging Face directory nor the prefix of a TensorFlow "
            "checkpoint (PREFIX.index); check the path"
        )
    if size is None:
        raise UserError(f"{source}: a TensorFlow checkpoint does not tell its size; give --size")
    return tf.load_networks(source, preset(size, vocab_size=vocab_size or _BERT_IDS))


def import_weights(
    source: Path,
    output: Path,
    *,
    size: str | None = None,
    vocab_size: int | None = None,
    tokenizer: TokenizerChoice = OWN_TOKENIZER,
) -> tuple[str, str]:
    """Write the weights as a Hugging Face directory; return a line on networks and on tokenizer.

    Raises ``UserError`` for anything that cannot be read or carried over exactly, or if ``output``
    exists; nothing is written then.
    """
    if output.exists():
        raise UserError(f"{output}: exists already; remove it or choose another directory")
    place = source if source.is_dir() else source.parent
    with atomic_directory(output) as temporary:
        words = take_tokenizer(place, tokenizer, temporary)
        found = read_networks(source, size, vocab_size)
        config, note = encoder_of(found).config, "none found; give --vocab FILE to add one"
        if words is not None:
            note = f"{tokenizer.vocab or place / words.file.name}: {fit(words, config)}"
            _set_padding(found, words.pad_id)
        elif tokenizer.none:
            note = "left out"
        facts = CardFacts(str(output), training={"imported from": source.name})
        export = hf.save_pretrained(found, temporary, model_card=facts)
        if words is not None:
            save_tokenizer(words, temporary, config.max_positions)
    generator = export.generator or export.generator_refusal or "none"
    if isinstance(found, Encoder):
        generator = "none in the source, the encoder alone was imported"
    return f"{export.architecture}; generator: {generator}", note


def encoder_of(found: PretrainingModel | Encoder) -> Encoder:
    """Return the encoder that is fine-tuned: the networks' own, or the one that is alone."""
    return found if isinstance(found, Encoder) else kept_encoder(found)


def _set_padding(found: PretrainingModel | Encoder, pad_id: int) -> None:
    """Note where the tokenizer has [PAD]: checkpoints do not tell it, and configurations may err.

    No hidden state depends on it.
    """
    padding = {"pad_token_id": pad_id}
    for module in found.modules():
        if isinstance(module, Encoder):
            module.config = module.config.model_copy(update=padding)
    if isinstance(found, Encoder):
        return
    networks = ("discriminator", "generator")
    parts = {name: getattr(found.config, name) for name in networks}
    changed = {n: part.model_copy(update=padding) for n, part in parts.items() if part is not None}
    found.config = found.config.model_copy(update=changed)
