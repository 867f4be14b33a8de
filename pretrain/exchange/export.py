"""A checkpoint written in Hugging Face format."""

from pathlib import Path

from convbert.data_pipeline.hf_tokenizer import save_hf_tokenizer
from convbert.data_pipeline.sources import Corpus
from convbert.data_pipeline.tokenizer import Tokenizer
from convbert.models.interop.hf import save_pretrained
from convbert.pretrain.config import RunConfig
from convbert.pretrain.exchange.trained_model import kept_encoder, load_model
from convbert.pretrain.run_directory import RunDirectory


def _card(config: RunConfig, corpus: Corpus, step: int) -> dict[str, object]:
    return {
        "step": step,
        "steps": config.steps,
        "global_batch": config.global_batch,
        "sequence_length": corpus.seq_len,
        "training_tokens": step * config.global_batch * corpus.seq_len,
        "shards": corpus.digest,
        "tokenizer": corpus.tokenizer_digest,
    }


def export_checkpoint(run: RunDirectory, output: Path, step: int | None = None) -> int:
    """Write weights, configuration, model card and fast tokenizer; return the step."""
    config = run.open()
    corpus = Corpus(config.data.blend)
    model, found = load_model(run, step)
    save_pretrained(model, output, model_card=_card(config, corpus, found))
    length = kept_encoder(model).config.max_positions
    save_hf_tokenizer(Tokenizer.load(config.data.tokenizer), output, length)
    return found
