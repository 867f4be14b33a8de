"""Fine-tune the same exported weights with this package and with transformers' ``Trainer``.

    python -m tests.benchmarks.finetune_agreement MODEL TOKENIZER CORPUS [-o FILE]

``MODEL`` is an exported run, ``CORPUS`` the folder of ``movie_reviews.csv``. Rows, head, optimizer,
rates, epochs and batch size are the same on both sides; the order of the rows and the padding of
the batches differ, and so does the generator of the dropout, so equal seeds give different numbers
and only the spread over seeds can agree. Prints a line for each fine-tuning and a summary.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.encoder import Encoder
from convbert.models.interop.hf import load_pretrained
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.loop import finetune
from convbert.pretrain.finetune.task import load_task

SEEDS = 5
# What Trainer offers too: no layer-wise rates, linear schedule, Adam with bias correction.
RECIPE = ["layer_decay=1.0", "schedule=linear", "bias_correction=true", "head=mlp"]
RECIPE += ["learning_rate=5.0e-4", "pooling=cls"]


def like_transformers(encoder: Encoder) -> Encoder:
    """Return the encoder as transformers computes it: padding leaks into the convolutions."""
    config = encoder.config.model_copy(update={"mask_conv_padding": False})
    same = Encoder(config)
    same.load_state_dict(encoder.state_dict())
    return same


def train_with_transformers(model_dir: Path, data: TaskData, seed: int) -> float:
    """Return the accuracy on the dev rows after training with ``Trainer``."""
    from transformers import ConvBertForSequenceClassification, Trainer, TrainingArguments, set_seed

    recipe = data.task.recipe
    set_seed(seed)
    model = ConvBertForSequenceClassification.from_pretrained(
        model_dir, num_labels=2, classifier_dropout=recipe.dropout, local_files_only=True
    )

    def rows(split: str) -> list[dict[str, Any]]:
        features = data.splits[split]
        return [
            {"input_ids": ids, "token_type_ids": types, "label": int(label)}
            for ids, types, label in zip(
                features.input_ids, features.token_type_ids, features.labels, strict=True
            )
        ]

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            seed=seed,
            num_train_epochs=recipe.epochs,
            per_device_train_batch_size=recipe.batch_size,
            per_device_eval_batch_size=64,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=recipe.warmup,  # below 1 it is a share of all steps
            weight_decay=recipe.weight_decay,
            adam_epsilon=1e-6,
            max_grad_norm=recipe.clip,
            optim="adamw_torch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
            use_cpu=not torch.cuda.is_available(),
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=rows("train"),
            data_collator=lambda batch: _padded(batch, data.pad_id),
        )
        trainer.train()
        dev = rows("dev")
        guesses = trainer.predict(dev).predictions.argmax(-1)
    return float((guesses == [row["label"] for row in dev]).mean())


def _padded(batch: list[dict[str, Any]], pad_id: int) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in batch)

    def fill(values: list[int], value: int) -> list[int]:
        return values + [value] * (longest - len(values))

    return {
        "input_ids": torch.tensor([fill(row["input_ids"], pad_id) for row in batch]),
        "token_type_ids": torch.tensor([fill(row["token_type_ids"], 0) for row in batch]),
        "attention_mask": torch.tensor([fill([1] * len(row["input_ids"]), 0) for row in batch]),
        "labels": torch.tensor([row["label"] for row in batch]),
    }


def main() -> None:
    """Compare both and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "tokenizer", "corpus"):
        parser.add_argument(name, type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEEDS)))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    overrides = [f"recipe.{entry}" for entry in RECIPE]
    task = load_task("rotten_tomatoes", arguments.corpus, overrides)
    data = prepare(task, Tokenizer.load(arguments.tokenizer))
    encoder = like_transformers(load_pretrained(arguments.model))
    scores: dict[str, list[float]] = {"ours": [], "transformers": []}
    for seed in arguments.seeds:
        scores["ours"].append(finetune(encoder, data, seed=seed).score)
        scores["transformers"].append(train_with_transformers(arguments.model, data, seed))
        latest = {name: round(values[-1], 4) for name, values in scores.items()}
        print(f"seed {seed}: {latest}", flush=True)
    for name, values in scores.items():
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f"{name}: median {statistics.median(values):.4f}, mean {statistics.mean(values):.4f}, "
            f"{min(values):.4f} to {max(values):.4f}, standard deviation {deviation:.4f}"
        )
    if arguments.output:
        record = {"recipe": task.recipe.model_dump(), "scores": scores}
        arguments.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
