"""Take over weights from elsewhere: Hugging Face directories and the original TF checkpoints."""

from pathlib import Path

from convbert.data_pipeline.atomic import atomic_directory
from convbert.data_pipeline.tokenizer.hugging_face import save_hf_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import VOCABULARY, Tokenizer
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.hf import (
    Export,
    load_pretrained,
    load_pretraining_model,
    save_pretrained,
)
from convbert.models.interop.tf import load_checkpoint, load_encoder
from convbert.models.interop.vocab import inspect_vocab, require_sound_vocab
from convbert.models.presets import preset
from convbert.models.pretraining import MaskedLanguageModel, ReplacedTokenModel

Weights = ReplacedTokenModel | MaskedLanguageModel | Encoder


def read_weights(source: Path, size: str | None = None, vocab_size: int = 30_522) -> Weights:
    """Read all networks there are, else the encoder alone; raises ``UserError``.

    ``source`` is a Hugging Face directory, or the prefix of a TensorFlow checkpoint (then
    ``size`` names its configuration, which such a checkpoint does not hold).
    """
    if source.is_dir():
        try:
            return load_pretraining_model(source)
        except UserError:
            return load_pretrained(source)
    if not source.with_name(f"{source.name.removesuffix('.index')}.index").is_file():
        raise UserError(
            f"{source}: neither a Hugging Face directory nor the prefix of a TensorFlow "
            "checkpoint (PREFIX.index); check the path"
        )
    if size is None:
        raise UserError(f"{source}: a TensorFlow checkpoint does not tell its size; give --size")
    config = preset(size, vocab_size=vocab_size)
    try:
        return load_checkpoint(source, config)
    except UserError:
        return load_encoder(source, config.discriminator)


def import_weights(
    source: Path,
    output: Path,
    *,
    size: str | None = None,
    vocab_size: int = 30_522,
    vocab: Path | None = None,
) -> tuple[Export, str]:
    """Write the weights as a Hugging Face directory; return that and a word on the vocabulary.

    A damaged vocabulary beside the weights is reported and left out; one given as ``vocab`` is
    refused. Raises ``UserError`` for anything that cannot be read or if ``output`` exists.
    """
    if output.exists():
        raise UserError(f"{output}: exists already; remove it or choose another directory")
    weights = read_weights(source, size, vocab_size)
    with atomic_directory(output) as temporary:
        export = save_pretrained(weights, temporary, model_card={"imported from": source.name})
        note = _take_vocabulary(source, vocab, temporary, _encoder(weights).config.max_positions)
    return export, note


def _encoder(weights: Weights) -> Encoder:
    if isinstance(weights, ReplacedTokenModel):
        return weights.discriminator
    return weights.encoder if isinstance(weights, MaskedLanguageModel) else weights


def _take_vocabulary(source: Path, vocab: Path | None, folder: Path, max_length: int) -> str:
    """Copy a sound vocabulary with its fast tokenizer and say what was done."""
    beside = (source if source.is_dir() else source.parent) / VOCABULARY
    if vocab is None and not beside.is_file():
        return "no vocab.txt found; give --vocab FILE to add a tokenizer"
    if vocab is None:
        report = inspect_vocab(beside)
        if not report.sound:
            return f"{report.describe()}; left out: give --vocab FILE with the original one"
    path = vocab or beside
    require_sound_vocab(path)
    (folder / VOCABULARY).write_bytes(path.read_bytes())
    save_hf_tokenizer(Tokenizer.load(folder), folder, max_length)
    return f"{path}: sound, {Tokenizer.load(folder).vocab_size:,} ids"


def initialise_from(model: ReplacedTokenModel | MaskedLanguageModel, source: Path) -> None:
    """Overwrite fresh networks with those of a directory; what it lacks stays fresh.

    Raises ``UserError`` naming the first tensor whose shape differs.
    """
    weights = read_weights(source)
    target = model if type(weights) is type(model) else _encoder(model)
    found = weights if type(weights) is type(model) else _encoder(weights)
    own = target.state_dict()
    for name, tensor in found.state_dict().items():
        if name not in own or own[name].shape != tensor.shape:
            expected = tuple(own[name].shape) if name in own else "nothing"
            raise UserError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, the configuration expects "
                f"{expected}; use the size and vocabulary the weights were trained with"
            )
    target.load_state_dict(found.state_dict())
