"""A checkpoint written in Hugging Face format."""

from collections.abc import Sequence
from pathlib import Path

from convbert.data_pipeline.atomic import filled
from convbert.data_pipeline.tokenizer.hugging_face import save_hf_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.interop.hf import GENERATOR_DIRECTORY, save_pretrained
from convbert.models.pretraining import kept_encoder
from convbert.pretrain.exchange.card import card_of
from convbert.pretrain.exchange.trained_model import load_model
from convbert.pretrain.run.directory import RunDirectory


def export_checkpoint(
    run: RunDirectory,
    output: Path,
    step: int | None = None,
    average: int = 1,
    *,
    license_code: str = "unknown",
    languages: Sequence[str] = (),
) -> int:
    """Write weights, configuration, model card and tokenizer; return the step.

    ``license_code`` and ``languages`` are codes for the card, as on the Hugging Face hub; without
    ``languages`` it names those that the corpus was built for, where that is known.
    """
    config = run.open()
    tokenizer = Tokenizer.load(config.data.tokenizer)
    with filled(output):
        model, found = load_model(run, step, average)
        card = card_of(run, config, found, average, str(output), license_code, languages)
        save_pretrained(model, output, model_card=card)
        save_tokenizer(tokenizer, output, kept_encoder(model).config.max_positions)
    return found


def save_tokenizer(tokenizer: Tokenizer, directory: Path, max_length: int) -> None:
    """Write the fast tokenizer beside an exported encoder, and beside its generator if it has one.

    Without it ``pipeline("fill-mask", model=".../generator")`` answers with empty strings.
    """
    save_hf_tokenizer(tokenizer, directory, max_length)
    if (directory / GENERATOR_DIRECTORY).is_dir():
        save_hf_tokenizer(tokenizer, directory / GENERATOR_DIRECTORY, max_length)
