"""A checkpoint written in Hugging Face format."""

from pathlib import Path

from convbert.data_pipeline.tokenizer.hugging_face import save_hf_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.interop.hf import GENERATOR_DIRECTORY, save_pretrained
from convbert.models.pretraining import kept_encoder
from convbert.pretrain.exchange.trained_model import load_model
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.settings.run import RunConfig


def _card(config: RunConfig, step: int, average: int) -> dict[str, object]:
    timeline = Timeline.load(config)
    corpus = timeline.corpora[0]
    return {
        "step": step,
        "averaged_checkpoints": average,
        "steps": config.steps,
        "global_batch": config.global_batch,
        "sequence_length": timeline.at(step - 1).seq_len,
        "training_tokens": timeline.tokens(step),
        "shards": timeline.digest,
        "tokenizer": corpus.tokenizer_digest,
    }


def export_checkpoint(
    run: RunDirectory, output: Path, step: int | None = None, average: int = 1
) -> int:
    """Write weights, configuration, model card and fast tokenizer; return the step."""
    config = run.open()
    model, found = load_model(run, step, average)
    save_pretrained(model, output, model_card=_card(config, found, average))
    length = kept_encoder(model).config.max_positions
    save_tokenizer(Tokenizer.load(config.data.tokenizer), output, length)
    return found


def save_tokenizer(tokenizer: Tokenizer, directory: Path, max_length: int) -> None:
    """Write the fast tokenizer beside an exported encoder, and beside its generator if it has one.

    Without it ``pipeline("fill-mask", model=".../generator")`` answers with empty strings.
    """
    save_hf_tokenizer(tokenizer, directory, max_length)
    if (directory / GENERATOR_DIRECTORY).is_dir():
        save_hf_tokenizer(tokenizer, directory / GENERATOR_DIRECTORY, max_length)
