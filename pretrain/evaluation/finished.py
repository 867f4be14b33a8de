"""Seeds of a fine-tuning on disk as each ends: a kill loses none, and the same command goes on."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from convbert.data_pipeline import locks
from convbert.data_pipeline.atomic import atomic_directory, atomic_write
from convbert.models.encoder import Encoder
from convbert.models.schema import read_record
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.loop import FinetuneResult
from convbert.pretrain.finetune.submission import write_predictions
from convbert.pretrain.finetune.workers import InitialEncoder

_PLACES = {"train", "dev", "test", "extra", "dataset"}  # where rows are says nothing about them


class FinishedSeeds:
    """The results of one task in ``FOLDER/seeds``, found again by all that decides them.

    That is the task, its encoded rows and the weights (or, for random ones, the shape) of the
    starting point. ``keep`` asks for prediction files beside each result.
    """

    def __init__(
        self, folder: Path, data: TaskData, starts: Mapping[str, InitialEncoder], *, keep: bool
    ) -> None:
        self.folder, self._data, self._keep = folder / "seeds", data, keep
        self._predictions = folder / "predictions"
        self.rows = digest_of_rows(data)
        self._digests = {label: _digest(self.rows, start) for label, start in starts.items()}

    def known(self, seeds: Iterable[int]) -> dict[str, list[FinetuneResult]]:
        """Return what was measured before, by starting point."""
        wanted = list(seeds)
        found: dict[str, list[FinetuneResult]] = {}
        for label in self._digests:
            paths = [self._path(label, seed) for seed in wanted]
            found[label] = [
                read_record(FinetuneResult, path, what="a result", remedy="delete it")
                for path in paths
                if path.is_file() and (not self._keep or path.with_suffix("").is_dir())
            ]
        return found

    def add(self, label: str, result: FinetuneResult) -> None:
        """Write a result, and before it the predictions that belong to it."""
        path = self._path(label, result.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        if result.predictions:
            with self._replacing(path.with_suffix("")) as folder:
                for split, predictions in result.predictions.items():
                    write_predictions(self._data, split, predictions, folder)
        with atomic_write(path) as file:
            file.write(result.model_dump_json(indent=1).encode() + b"\n")

    def publish_predictions(self, label: str, results: Sequence[FinetuneResult]) -> None:
        """Copy the predictions of the seed that is best on the dev split to ``predictions/``."""
        if not self._keep:
            return
        best = max(results, key=FinetuneResult.rank)
        with self._replacing(self._predictions / file_name(label)) as fresh:
            found = self._path(label, best.seed).with_suffix("")
            shutil.copytree(found, fresh, dirs_exist_ok=True)

    @contextmanager
    def _replacing(self, target: Path) -> Iterator[Path]:
        """Give a directory that takes a place; others may evaluate the same task meanwhile."""
        lock = locks.locked(self.folder.parent / ".lock")
        with lock, atomic_directory(target, replace=True) as fresh:
            yield fresh

    def digest(self, label: str) -> str:
        """Return what decides the results of a starting point, but for the seed, as a digest."""
        return self._digests[label]

    def _path(self, label: str, seed: int) -> Path:
        name = f"{file_name(label)}-seed-{seed}-{self._digests[label][:12]}"
        return self.folder / f"{name}.json"


def file_name(label: str) -> str:
    """Return a starting point's name in file names."""
    return label.replace(" ", "-")


def digest_of_rows(data: TaskData) -> str:
    """Return the SHA-256 of a task without its paths, of its encoded rows and their labels."""
    settings = data.task.model_dump(mode="json", exclude=_PLACES)
    state = hashlib.sha256(json.dumps([settings, data.class_names, data.pad_id]).encode())
    for split, features in data.splits.items():
        rows = [features.input_ids, features.token_type_ids, features.labels]
        golds = [[example.texts, example.label, example.id] for example in data.examples[split]]
        state.update(json.dumps([split, rows, golds]).encode())
    return state.hexdigest()


def _digest(rows: str, start: InitialEncoder) -> str:
    state = hashlib.sha256(rows.encode())
    config = start.config if isinstance(start, Encoder) else start
    state.update(config.model_dump_json().encode())
    if isinstance(start, Encoder):
        for name, tensor in sorted(start.state_dict().items()):
            state.update(name.encode())
            state.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return state.hexdigest()
