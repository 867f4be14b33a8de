"""A list of ``train_rows``: the learning curve over labels."""

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_tasks import synthetic_task, write_synthetic

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.pretrain.finetune import loop
from convbert.pretrain.finetune.kinds import PROBLEMS, prepare_all
from convbert.pretrain.finetune.task import TaskSpec, load_task, load_tasks


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic(folder)
    return folder


def prepared(name, files, tokenizer_dir, *overrides):
    task = load_task(synthetic_task(name, files), None, overrides)
    return prepare_all([task], Tokenizer.load(tokenizer_dir))


def texts(data):
    return [example.texts for example in data.examples["train"]]


def test_each_seed_draws_its_own_nested_rows(files, tokenizer_dir):
    few, more, whole = prepared("cola", files, tokenizer_dir, "train_rows=[20, 50, all]")
    names = [data.task.name for data in (few, more, whole)]
    assert names == [f"synthetic_cola_{rows}_rows" for rows in (20, 50, "all")]
    draws = [[texts(data.for_seed(seed)) for data in (few, more, whole)] for seed in range(3)]
    for small, large, everything in draws:
        assert [len(small), len(large)] == [20, 50]
        assert set(small) < set(large) < set(everything)
        assert everything == texts(whole)
    assert len({tuple(small) for small, *_ in draws}) == 3
    assert draws[0][0] == texts(few.for_seed(0))  # again the same
    (number,) = prepared("cola", files, tokenizer_dir, "train_rows=20")
    assert draws[0][0] == texts(number) == texts(number.for_seed(7))  # one number: one draw
    assert few.for_seed(1).examples["dev"] == number.examples["dev"]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("tags", ["recipe.max_length=6"]),  # a sentence goes on in further rows
        ("qa", ["recipe.max_length=32", "recipe.qa.max_query=8", "recipe.qa.stride=8"]),
        ("nli", ["swap_pairs=true"]),
        ("cola", []),
    ],
)
def test_the_drawn_rows_are_encoded_as_if_there_were_no_others(
    files, tokenizer_dir, name, overrides
):
    (data,) = prepared(name, files, tokenizer_dir, "train_rows=[30]", *overrides)
    chosen = data.for_seed(2)
    encode = PROBLEMS[data.task.kind].encode
    examples = chosen.examples["train"]
    assert len(examples) == (60 if data.task.swap_pairs else 30)
    if data.task.swap_pairs:
        assert [e.texts[::-1] for e in examples[:30]] == [e.texts for e in examples[30:]]
    alone = encode(data.task, Tokenizer.load(tokenizer_dir), examples)
    found = chosen.splits["train"]
    # An unlabelled number is NaN, which no list equals; training rows have labels.
    assert replace(found, places=[]) == replace(alone, places=[])
    assert list(map(repr, found.places)) == list(map(repr, alone.places))
    assert len(found) > len(examples) or name not in ("tags", "qa")


@pytest.mark.parametrize("sizes", ["[]", "[200, 100]", "[all, 100]", "[100, 100]", "[few]", "[0]"])
def test_sizes_that_are_no_rising_numbers_are_refused(files, sizes):
    with pytest.raises(UserError, match="train_rows"):
        load_task(synthetic_task("cola", files), None, [f"train_rows={sizes}"])


def test_more_rows_than_there_are_and_names_that_meet_are_refused(files, tokenizer_dir):
    with pytest.raises(UserError, match=r"synthetic_cola_99999_rows: train_rows 99999 of \d+ rows"):
        prepared("cola", files, tokenizer_dir, "train_rows=[10, 99999]")
    with pytest.raises(UserError, match=r"synthetic_cola: train_rows 99999 of \d+ rows; lower it"):
        prepared("cola", files, tokenizer_dir, "train_rows=99999")
    task = Path(synthetic_task("cola", files))
    sized = task.read_text() + "train_rows: [10]\n"
    (files / "list.yaml").write_text(sized)
    (files / "named.yaml").write_text(task.read_text().replace("_cola", "_cola_10_rows"))
    with pytest.raises(UserError, match="task synthetic_cola_10_rows: given twice"):
        load_tasks([str(files / "list.yaml"), str(files / "named.yaml")], None, [])


def test_few_rows_are_repeated_up_to_the_updates_asked_for(files, tokenizer_dir, monkeypatch):
    rates = []
    monkeypatch.setattr(loop, "set_rates", lambda *given: rates.append(given[2:]))
    few = ["train_rows=20", "recipe.batch_size=8", "recipe.epochs=2", "recipe.max_length=16"]
    for updates, expected in ((0, 6), (6, 6), (7, 9)):
        (data,) = prepared("cola", files, tokenizer_dir, *few, f"recipe.min_updates={updates}")
        shape = {"hidden_size": 8, "embedding_size": 8, "num_layers": 1, "num_heads": 1}
        shape |= {"intermediate_size": 8, "max_positions": 16, "vocab_size": data.vocab_size}
        rates.clear()
        loop.finetune(Encoder(EncoderConfig(**shape)), data, seed=0)
        assert rates == [(step, expected) for step in range(expected)]  # the schedule ends with it


def test_a_number_is_the_same_task():
    fields = {"name": "t", "train": "t.csv", "text": ["text"], "metrics": ["accuracy"]}
    task = TaskSpec.model_validate(fields | {"train_rows": 5})
    assert task.by_size() == [task]
