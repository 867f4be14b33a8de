"""Files of results can be read back and joined, whatever training came to."""

import json
import math

import pytest
import torch

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import DamagedError
from convbert.pretrain.evaluation.results import (
    StartResults,
    TaskResults,
    read_results,
    write_results,
)
from convbert.pretrain.finetune.kinds import prepare
from convbert.pretrain.finetune.loop import FinetuneResult, finetune
from convbert.pretrain.finetune.recipe import FinetuneConfig
from convbert.pretrain.finetune.task import TaskSpec

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.mark.parametrize(("kind", "metric"), [("classification", "f1"), ("regression", "pearson")])
def test_results_of_a_training_that_diverged_can_be_joined(tmp_path, tokenizer_dir, kind, metric):
    texts = [f"{first} {second}" for first in WORDS for second in WORDS]
    tokenizer = Tokenizer.load(tokenizer_dir)
    rows = "".join(f"{text},{number % 2}\n" for number, text in enumerate(texts))
    (tmp_path / "task.csv").write_text("text,label\n" + rows)
    recipe = {"learning_rate": 1e38, "epochs": 1, "max_length": 16}
    task = TaskSpec.model_validate(
        {"name": "t", "kind": kind, "train": tmp_path / "task.csv", "text": ["text"]}
        | {"metrics": [metric], "recipe": recipe}
    )
    data = prepare(task, tokenizer)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "embedding_size": 16, "num_layers": 1, "num_heads": 2}
    shape |= {"intermediate_size": 16, "max_positions": 16}
    encoder = Encoder(EncoderConfig(vocab_size=tokenizer.vocab_size, **shape))
    found = finetune(encoder, data, seed=0)
    assert math.isnan(found.train_loss)
    assert math.isfinite(found.score)
    for step in (10, 20):
        start = StartResults.of(f"step {step}", step, 1e9 * step, [found])
        sizes = {split: len(rows) for split, rows in data.examples.items()}
        results = TaskResults(
            run="r", task="t", metric=metric, recipe=task.recipe, rows=sizes, starts=[start]
        )
        write_results(results, tmp_path / "report")
    joined = read_results(tmp_path / "report" / "results.json")
    assert [start.step for start in joined.starts] == [10, 20]
    assert all(math.isnan(start.results[0].train_loss) for start in joined.starts)
    json.loads((tmp_path / "report" / "results.json").read_bytes(), parse_constant=pytest.fail)


@pytest.mark.parametrize("content", ["", "{}", '{"run": "r", "task"'])
def test_a_damaged_file_of_results_is_named_with_the_remedy(tmp_path, content):
    path = tmp_path / "step-2.json"
    path.write_text(content)
    with pytest.raises(DamagedError, match=r"step-2\.json: not a file of results .* move it away"):
        read_results(path)


def test_results_of_other_rows_or_measures_are_not_joined(tmp_path):
    def measured(step, data, scores):
        found = FinetuneResult(
            task="t", metric="accuracy", seed=0, scores=scores, train_loss=0.1, seconds=1.0
        )
        start = StartResults.of(f"step {step}", step, 1e9 * step, [found])
        rows = {"train": 9, "dev": 3}  # as many as before; only a label was corrected
        results = TaskResults(
            run="r", task="t", metric="accuracy", data=data, recipe=FinetuneConfig(), rows=rows,
            starts=[start],
        )  # fmt: skip
        return [one.step for one in write_results(results, tmp_path).starts]

    old, new = {"dev": {"accuracy": 0.5}}, {"dev": {"accuracy": 0.5, "f1": 0.5}}
    assert measured(10, "", old) == [10]  # a file of an earlier version
    assert measured(20, "before", old) == [10, 20]
    assert measured(30, "after", new) == [10, 30]
