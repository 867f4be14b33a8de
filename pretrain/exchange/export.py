"""A checkpoint written in Hugging Face format."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from convbert.data_pipeline.atomic import filled
from convbert.data_pipeline.tokenizer.encoders import MODEL, VOCABULARY
from convbert.data_pipeline.tokenizer.hugging_face import save_hf_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.interop.hf import (
    DISCRIMINATOR_HEAD_FILE,
    GENERATOR_DIRECTORY,
    save_pretrained,
)
from convbert.models.pretraining import kept_encoder
from convbert.pretrain.exchange.card import card_of
from convbert.pretrain.exchange.run_models import tokenizer_of
from convbert.pretrain.exchange.trained_model import load_model
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.timeline import Timeline

# What some models have and others have not: of another one it would be taken for this one's.
_OPTIONAL = (MODEL, VOCABULARY, GENERATOR_DIRECTORY, DISCRIMINATOR_HEAD_FILE)


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

    They take the place of an earlier export. Raises ``UserError`` where a part of another model
    would stay beside them.

    ``license_code`` and ``languages`` are codes for the card, as on the Hugging Face hub; without
    ``languages`` it names those that the corpus was built for, where that is known.
    """
    config = run.open()
    tokenizer = tokenizer_of(config, Timeline.load(config))
    with filled(output):
        model, found = load_model(run, step, average)
        card = card_of(run, config, found, average, str(output), license_code, languages)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=output) as folder:
            made = Path(folder)
            save_pretrained(model, made, model_card=card)
            save_tokenizer(tokenizer, made, kept_encoder(model).config.max_positions)
            _put(made, output)
    return found


def _put(made: Path, output: Path) -> None:
    """Move what is complete into its place."""
    for name in _OPTIONAL:
        if (output / name).exists() and not (made / name).exists():
            raise UserError(
                f"{output / name}: belongs to another model, and the one that is exported has none;"
                " remove it or choose another directory"
            )
    for entry in sorted(made.iterdir()):
        if entry.is_dir():
            shutil.rmtree(output / entry.name, ignore_errors=True)
        entry.replace(output / entry.name)


def save_tokenizer(tokenizer: Tokenizer, directory: Path, max_length: int) -> None:
    """Write the fast tokenizer beside an exported encoder, and beside its generator if it has one.

    Without it ``pipeline("fill-mask", model=".../generator")`` answers with empty strings.
    """
    save_hf_tokenizer(tokenizer, directory, max_length)
    if (directory / GENERATOR_DIRECTORY).is_dir():
        save_hf_tokenizer(tokenizer, directory / GENERATOR_DIRECTORY, max_length)
