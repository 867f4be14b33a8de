"""The description of a labeled task: a few lines of YAML."""

import fnmatch
import math
import os
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from convbert.models.errors import AbsentError, UserError
from convbert.models.schema import StrictModel, read_mapping, validate
from convbert.pretrain.finetune.metrics import METRICS, default_measure, misfit
from convbert.pretrain.finetune.recipe import FinetuneConfig, SplitRule
from convbert.pretrain.settings.recipes import merge, parse_override

# Names become folders, files and MLflow's metrics.
_Name = Annotated[
    str, Field(pattern=r"^\w[\w .-]*$", max_length=100, description="letters, digits, . _ -")
]
TaskKind = Literal["classification", "regression", "tagging", "qa"]
MAIN = ("train", "dev", "test")
_PACKAGED = Path(str(resources.files(__package__) / "tasks"))
# How many columns a kind reads; tagging has one, with the words of a sentence.
_COLUMNS: dict[TaskKind, tuple[int, int]] = {
    "classification": (1, 2),
    "regression": (1, 2),
    "tagging": (1, 1),
    "qa": (2, 2),
}
_CONLLU = {"kind": "tagging", "text": ["form"], "label": "upos", "metrics": ["accuracy"]}


class DatasetLocation(StrictModel):
    """The same task as a Hugging Face dataset: saved on disk, as parquet files, or on the hub."""

    directory: Path = Field(Path(), description="where it is looked for, in data_dir")
    hub: str | None = Field(
        None, description="repository, used with --data-source hub only", examples=["nyu-mll/glue"]
    )
    config: str | None = Field(
        None, description="its configuration, and the folder looked for", examples=["mrpc"]
    )
    splits: dict[_Name, str] = Field(
        default_factory=lambda: {"train": "train", "dev": "validation", "test": "test"},
        description="our splits, and theirs",
    )


class TaskSpec(StrictModel):
    """One task: its files, its columns, its measures and its recipe."""

    name: _Name = Field(
        description="what results are filed under: letters, digits, . _ -", examples=["tickets"]
    )
    kind: TaskKind = Field(
        "classification",
        description="what is predicted: a class, a number, a tag for each word, or an answer in a "
        "text",
    )
    train: Path = Field(
        description="CSV, TSV, JSON-lines, CoNLL, CoNLL-U, SQuAD JSON or parquet file",
        examples=["tickets.csv"],
    )
    dev: Path | None = Field(
        None,
        description="rows to measure on; default: a part of train, see split",
        examples=["tickets-dev.csv"],
    )
    test: Path | None = Field(
        None,
        description="rows for a final measurement, which may lack labels",
        examples=["tickets-test.csv"],
    )
    extra: dict[_Name, Path] = Field(
        default_factory=dict, description="more splits to predict", examples=[{"new": "new.csv"}]
    )
    may_lack: list[str] = Field(
        default_factory=list, description="splits whose file may be absent", examples=[["test"]]
    )
    dataset: DatasetLocation | None = None
    text: list[str] = Field(
        min_length=1,
        max_length=2,
        description="one column, or two for pairs",
        examples=[["subject"]],
    )
    label: str = Field("label", description="column of the label", examples=["queue"])
    labels: list[str] | None = Field(
        None,
        min_length=2,
        description="class names; default: those in train",
        examples=[["billing", "delivery"]],
    )
    label_names: dict[str, str] = Field(
        default_factory=dict,
        description="how a file's labels are called here",
        examples=[{"0": "billing", "1": "delivery"}],
    )
    label_scale: float = Field(
        1.0, gt=0, description="factor that targets of a regression are divided by", examples=[5]
    )
    unlabelled: list[str] = Field(
        default_factory=list, description="labels that mean none", examples=[["-1"]]
    )
    header: list[str] | None = Field(
        None, description="columns of files without a first line", examples=[["label", "subject"]]
    )
    rename: dict[str, str] = Field(
        default_factory=dict, description="columns: theirs to ours", examples=[{"body": "text"}]
    )
    quoted: bool | None = Field(
        None, description="whether quotes enclose fields; default in .csv, not in .tsv"
    )
    skip_damaged: bool = Field(
        False, description="leave out rows with a wrong number of fields, damaged CoNLL-U sentences"
    )
    where: dict[str, str] = Field(
        default_factory=dict,
        description="keep rows with these values",
        examples=[{"language": "de"}],
    )
    metrics: list[str] = Field(
        [],
        min_length=1,
        description="the first decides; default by the kind and its tags",
        examples=[["f1_macro", "accuracy"]],
    )
    submission: dict[str, _Name] = Field(
        default_factory=dict,
        description="splits, and the files their predictions are named",
        examples=[{"test": "predictions.tsv"}],
    )
    split: SplitRule = SplitRule()
    train_rows: PositiveInt | list[PositiveInt | Literal["all"]] | None = Field(
        None,
        description="train on this many rows; fewer show more of what pretraining gave. A list, "
        "`[100, 1000, all]`: on each number of rows in turn, and each seed draws its own",
        examples=[[100, 1000, "all"]],
    )
    swap_pairs: bool = Field(False, description="train on both orders of each pair")
    recipe: FinetuneConfig = FinetuneConfig()

    @property
    def metric(self) -> str:
        """The deciding measure: the first."""
        return self.metrics[0]

    def measured(self, names: Sequence[str]) -> "TaskSpec":
        """Return the task with measures that are defined for its classes ``names``.

        Raises ``UserError`` where one that it asks for is not.
        """
        if not self.metrics:
            return self.model_copy(update={"metrics": [default_measure(self.kind, names)]})
        if fault := misfit(self.kind, self.metrics, names):
            raise UserError(f"task {self.name}: {fault}")
        return self

    def by_size(self) -> list["TaskSpec"]:
        """Return the task once for each number in a list of ``train_rows``, named after it."""
        if not isinstance(self.train_rows, list):
            return [self]
        return [
            self.model_copy(update={"name": f"{self.name}_{rows}_rows", "train_rows": [rows]})
            for rows in self.train_rows
        ]

    @property
    def files(self) -> dict[str, Path]:
        """The file of every split that has one of its own."""
        main = {split: getattr(self, split) for split in MAIN}
        return {split: path for split, path in main.items() if path is not None} | self.extra

    @model_validator(mode="before")
    @classmethod
    def _usual_for_conllu(cls, entry: Any) -> Any:
        """Let a CoNLL-U file be a task of part-of-speech tags unless other keys say otherwise."""
        if isinstance(entry, dict) and str(entry.get("train")).endswith(".conllu"):
            return _CONLLU | entry
        return entry

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_names()
        if self.labels and (fault := misfit(self.kind, self.metrics, self.labels)):
            raise ValueError(fault)
        for name in self.metrics:
            known = METRICS[self.kind]
            if name not in known:
                raise ValueError(f"metrics: no {name!r} for {self.kind}; use {', '.join(known)}")
        fewest, most = _COLUMNS[self.kind]
        if not fewest <= len(self.text) <= most:
            raise ValueError(f"text: {self.kind} reads {most} column(s), not {len(self.text)}")
        if self.split.test and (self.dev or self.test):
            raise ValueError("split.test divides train; leave out the files dev and test")
        if self.swap_pairs and (len(self.text) != 2 or self.kind == "qa"):
            raise ValueError("swap_pairs needs two text columns")
        for split in [*self.may_lack, *self.submission]:
            if split not in self.files and split not in MAIN:
                raise ValueError(f"{split!r} is not a split; there are {', '.join(self.files)}")
        if isinstance(self.train_rows, list):
            sizes = [math.inf if rows == "all" else rows for rows in self.train_rows]
            if not sizes or sizes != sorted(set(sizes)):
                raise ValueError(f"train_rows: {self.train_rows} must rise, `all` last")
        if "train" in self.may_lack or "dev" in self.may_lack:
            raise ValueError("may_lack: train and dev are needed")
        if self.split.by is not None and self.dev:
            raise ValueError("split.by divides train; leave out the file dev")
        return self

    def _check_names(self) -> None:
        """Refuse names that are given twice or contradict each other."""
        listed: dict[str, Sequence[str]] = {
            "text": self.text,
            "labels": self.labels or [],
            "metrics": self.metrics,
            "header": self.header or [],
            "submission": list(self.submission.values()),
        }
        for key, names in listed.items():
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{key}: {twice[0]!r} is named twice")
        if self.label in self.text:
            raise ValueError(f"label: {self.label!r} is a column of text too; name another")
        if taken := sorted(self.extra.keys() & set(MAIN)):
            raise ValueError(f"extra: {taken[0]!r} is a split of its own; use the key {taken[0]}")
        if self.labels:
            unknown = [n for n in self.label_names.values() if n not in self.labels]
            if unknown:
                raise ValueError(f"label_names: {unknown[0]!r} is not in labels")
            if both := sorted({*self.labels} & {*self.unlabelled}):
                raise ValueError(f"unlabelled: {both[0]!r} is in labels too")
        for split, path in self.files.items():
            if "\0" in str(path):
                raise ValueError(f"{split}: a file's name cannot hold the character 0")


def packaged_tasks() -> list[str]:
    """Name the tasks that come with the package, ``glue/cola`` for instance."""
    found = _PACKAGED.rglob("*.yaml")
    return sorted(path.relative_to(_PACKAGED).with_suffix("").as_posix() for path in found)


def match_tasks(names: Sequence[str]) -> list[str]:
    """Replace patterns such as ``glue/*`` by the packaged tasks they match; keep other names."""
    known = packaged_tasks()
    chosen: list[str] = []
    for name in names:
        matched = fnmatch.filter(known, name) if any(c in name for c in "*?[") else [name]
        if not matched:
            raise AbsentError(f"task {name!r}: matches none of {', '.join(known)}")
        chosen += [task for task in matched if task not in chosen]
    return chosen


def load_task(source: str, data_dir: Path | None = None, overrides: Sequence[str] = ()) -> TaskSpec:
    """Read the YAML file ``source``, or the task of that name that comes with the package.

    Relative file names in it start at ``data_dir``; by default at the YAML file's own folder, and
    for the tasks of the package at the current one. ``overrides`` are ``key=value`` with dotted
    keys (``recipe.learning_rate=1e-4``). Raises ``UserError`` naming file and key.
    """
    path, base = Path(source), data_dir or Path(source).parent
    if not os.path.isfile(path):
        names = packaged_tasks()
        if source not in names:
            raise AbsentError(f"task {source!r}: no such file, and not one of {', '.join(names)}")
        path, base = _PACKAGED / f"{source}.yaml", data_dir or Path()
    entry = read_mapping(path)
    for override in overrides:
        entry = merge(entry, parse_override(override))
    task = validate(TaskSpec, entry, source)
    files = {split: base / file for split, file in task.files.items()}
    main = {split: file for split, file in files.items() if split in MAIN}
    extra = {split: file for split, file in files.items() if split not in MAIN}
    dataset = task.dataset
    if dataset is not None:
        dataset = dataset.model_copy(update={"directory": base / dataset.directory})
    return task.model_copy(update={**main, "extra": extra, "dataset": dataset})


def load_tasks(
    names: Sequence[str], data_dir: Path | None, overrides: Sequence[str]
) -> list[TaskSpec]:
    """Read the named tasks; patterns stand for packaged ones."""
    tasks = [load_task(name, data_dir, overrides) for name in match_tasks(names)]
    counts = Counter(one.name for task in tasks for one in task.by_size())
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"task {min(twice)}: given twice; choose different names")
    return tasks
