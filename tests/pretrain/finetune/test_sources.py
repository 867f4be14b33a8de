"""Rows of data sets in several files are named with their own."""

import pytest

from convbert.models.errors import UserError
from convbert.pretrain.finetune.reading import read_examples
from convbert.pretrain.finetune.task import TaskSpec


def test_a_row_of_several_parquet_files_is_named_with_its_own(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [{"id": "q", "question": "Where?", "context": "In Rome.", "answers": "Rome"}]
    for number, part in enumerate((rows, [rows[0] | {"id": "r"}], rows)):
        file = tmp_path / f"train-{number}.parquet"
        datasets.Dataset.from_list(part).to_parquet(str(file))
    where = {"directory": tmp_path, "splits": {"train": "train"}}
    told = TaskSpec.model_validate(
        {"name": "t", "kind": "qa", "train": "t.jsonl", "text": ["question", "context"]}
        | {"label": "answers", "dataset": where}
    )
    with pytest.raises(UserError, match=r"train-2\.parquet:1: id 'q' is that of .*train-0\.pa"):
        read_examples(told, "datasets")
