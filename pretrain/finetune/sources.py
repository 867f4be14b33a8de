"""Where a task's rows come from: its own files, a Hugging Face dataset on disk, or the hub."""

import os
from pathlib import Path
from typing import Any, Literal

from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.finetune.tables import (
    Line,
    TableRow,
    check_columns,
    dataset_rows,
    import_datasets,
    read_table,
)
from convbert.pretrain.finetune.task import DatasetLocation, TaskSpec

DataSource = Literal["auto", "files", "datasets", "hub"]

Located = tuple[str, TableRow]
"""Where a row comes from (file and line, for messages), and the row."""

Files = list[tuple[str, list[Line]]]
"""The names of a split's files, with their rows."""


def read_splits(task: TaskSpec, source: DataSource = "auto") -> dict[str, list[Located]]:
    """Return the rows of every split that has any, filtered and with the task's column names.

    ``auto`` takes the task's files where the training file exists, else a dataset on disk; the
    hub is asked only when named. Raises ``UserError`` naming what was looked for.
    """
    found = _SOURCES[_choose(task, source)](task)
    return {split: _fitting(task, files) for split, files in found.items()}


def _choose(task: TaskSpec, source: DataSource) -> DataSource:
    if source != "auto":
        return source
    if task.dataset is None or os.path.isfile(task.train):
        return "files"
    return "datasets" if _saved(task.dataset) or _parquet(task.dataset, "train") else "files"


def _from_files(task: TaskSpec) -> dict[str, Files]:
    return {
        split: [(str(path), read_table(task, path))]
        for split, path in task.files.items()
        if os.path.isfile(path) or split not in task.may_lack
    }


def _dataset(task: TaskSpec) -> DatasetLocation:
    if task.dataset is None:
        raise UserError(f"task {task.name}: names no dataset; add `dataset` or use its files")
    return task.dataset


def _folders(dataset: DatasetLocation) -> list[Path]:
    root = dataset.directory
    named = [root / dataset.config] if dataset.config else []
    return [*named, root, *(folder / "data" for folder in [*named, root])]


def _saved(dataset: DatasetLocation) -> Path | None:
    """Return the folder that ``DatasetDict.save_to_disk`` wrote."""
    folders = (f for f in _folders(dataset) if (f / "dataset_dict.json").is_file())
    return next(folders, None)


def _parquet(dataset: DatasetLocation, split: str) -> list[Path]:
    theirs = dataset.splits.get(split, split)
    for folder in _folders(dataset):
        files = sorted([*folder.glob(f"{theirs}.parquet"), *folder.glob(f"{theirs}-*.parquet")])
        if files:
            return files
    return []


def _from_datasets(task: TaskSpec) -> dict[str, Files]:
    dataset = _dataset(task)
    saved = _saved(dataset)
    if saved is not None:
        return _splits(task, str(saved), import_datasets().load_from_disk(str(saved)))
    found: dict[str, Files] = {}
    for split in dataset.splits:
        files = _parquet(dataset, split)
        if files:
            found[split] = [(str(file), read_table(task, file)) for file in files]
        elif split not in task.may_lack:
            looked = ", ".join(str(f / f"{dataset.splits[split]}*") for f in _folders(dataset))
            raise AbsentError(
                f"task {task.name}: no dataset_dict.json and no parquet file {looked}"
            )
    return found


def _from_hub(task: TaskSpec) -> dict[str, Files]:
    dataset = _dataset(task)
    if dataset.hub is None:
        raise UserError(f"task {task.name}: dataset.hub names no repository; use files instead")
    try:
        loaded = import_datasets().load_dataset(dataset.hub, dataset.config)
    except Exception as error:  # connection, permission and format errors share no base
        reason = " ".join(str(error).split())
        raise UserError(f"hub dataset {dataset.hub}: {reason}; use files instead") from error
    return _splits(task, dataset.hub, loaded)


def _splits(task: TaskSpec, name: str, loaded: Any) -> dict[str, Files]:
    found = {}
    for split, theirs in _dataset(task).splits.items():
        if theirs in loaded:
            found[split] = [(f"{name}[{theirs}]", list(dataset_rows(loaded[theirs])))]
        elif split not in task.may_lack:
            raise AbsentError(f"{name}: no split {theirs!r}; there are {', '.join(loaded)}")
    return found


_SOURCES = {"files": _from_files, "datasets": _from_datasets, "hub": _from_hub}


def _fitting(task: TaskSpec, files: Files) -> list[Located]:
    """Rename the columns, check them, and keep the rows that ``where`` asks for."""
    located = [(f"{name}:{line}", row) for name, lines in files for line, row in lines]
    for place, row in located if task.rename else []:
        check_columns(task, list(row), place)
    rows = [
        (place, {task.rename.get(key, key): value for key, value in row.items()})
        for place, row in located
    ]
    for place, row in rows:
        for column in [*task.text, *task.where]:
            if column not in row:
                raise UserError(f"{place}: no column {column!r}; there are {', '.join(row)}")
    kept = [entry for entry in rows if all(str(entry[1][c]) == v for c, v in task.where.items())]
    if not kept:
        condition = f" with {task.where}" if task.where else ""
        raise UserError(f"{files[0][0]}: no rows{condition}; check the file and `where`")
    return kept
