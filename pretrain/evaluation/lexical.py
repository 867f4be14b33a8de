"""The baseline that sees only words, beside what fine-tuning and probes measured.

Its file ``lexical.json`` keeps every draw of training rows that was measured in a folder: the
checkpoints of a run, evaluated one by one, take it from there.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ConfigDict

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.schema import StrictModel, read_record
from convbert.pretrain.evaluation.publishing import data_inputs
from convbert.pretrain.evaluation.results import LexicalResults, locked
from convbert.pretrain.finetune.baselines import LEXICAL, lexical_scores
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.run.curve import Spread

FILE_NAME = "lexical.json"


class Draw(StrictModel):
    """The baseline on one draw of training rows; ``data`` is a digest of all rows and measures."""

    # NaN, of a measure that the rows leave undefined, is not JSON.
    model_config = ConfigDict(ser_json_inf_nan="strings")

    name: str
    data: str
    rows: dict[str, int]
    scores: dict[str, dict[str, float]]


class LexicalFile(StrictModel):
    """Contents of ``lexical.json``."""

    draws: list[Draw]


def measure_lexical(data: TaskData, seeds: Sequence[int], folder: Path) -> LexicalResults | None:
    """Return the baseline's measures over the rows of the seeds; None for a task that has none.

    What ``lexical.json`` in ``folder`` does not have yet is measured and added to it. Raises
    ``DamagedError`` for another file of this name.
    """
    if data.task.kind not in LEXICAL:
        return None
    path = folder / FILE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        known = {draw.data: draw for draw in _read(path)}
        found = {}
        for seed in seeds:
            drawn = data.for_seed(seed)
            key = _digest(drawn)
            found[key] = known.get(key) or _measured(drawn, key)
        _write(path, list((known | found).values()))
    return _together(list(found.values()))


def _measured(data: TaskData, key: str) -> Draw:
    rows = {split: len(examples) for split, examples in data.examples.items()}
    name = LEXICAL[data.task.kind]
    return Draw(name=name, data=key, rows=rows, scores=lexical_scores(data))


def _digest(data: TaskData) -> str:
    content = [data.task.kind, data.task.metrics, [(i.name, i.digest) for i in data_inputs(data)]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _together(draws: Sequence[Draw]) -> LexicalResults:
    spreads = {
        split: {metric: Spread.of([d.scores[split][metric] for d in draws]) for metric in scores}
        for split, scores in draws[0].scores.items()
    }
    return LexicalResults(name=draws[0].name, spreads=spreads)


def _read(path: Path) -> list[Draw]:
    if not path.exists():
        return []
    what = "a file of the lexical baseline"
    return read_record(LexicalFile, path, what=what, remedy="move it away").draws


def _write(path: Path, draws: list[Draw]) -> None:
    with atomic_write(path) as file:
        file.write(LexicalFile(draws=draws).model_dump_json(indent=1).encode() + b"\n")
