"""What the finished runs of a study measured: a line each in ``results.jsonl``.

A run with a line there is not trained again, also where its directory is gone. So a long study goes
on from that file on another machine, and the file is what its page is made of.
"""

import hashlib
import json
import math
import statistics
import threading
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.shards.manifest import Manifest
from convbert.models.errors import UserError
from convbert.models.schema import StrictModel, parse
from convbert.pretrain.report.runs import ReportCurve, read_run
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.curve import Level
from convbert.pretrain.study.design import Design, StudyRun
from convbert.pretrain.study.steps import DATA, run_steps
from convbert.pretrain.tracking.metrics_log import FILE_NAME, read_records
from convbert.pretrain.tracking.records import StepRecord

RESULTS = "results.jsonl"
HELD_OUT_LOSS = metric_names.held_out(metric_names.LOSS_MLM)


class Measure(StrictModel):
    """A measure at each checkpoint of a run, NaN where undefined, and what it is compared with."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    values: list[float]
    baseline: float | None = None
    lexical: Level | None = None


class RunResult(StrictModel):
    """A finished run: its settings, digests of the data, seconds per update and measures."""

    model_config = ConfigDict(ser_json_inf_nan="strings")

    run: str
    settings: dict[str, Any]
    data: dict[str, str]
    step_seconds: float
    measures: dict[str, Measure]

    @property
    def loss(self) -> float:
        """The masked-token loss on held-out text at the end, infinite if it is undefined."""
        measure = self.measures.get(HELD_OUT_LOSS)
        value = measure.values[-1] if measure else math.nan
        return math.inf if math.isnan(value) else value


class Results:
    """The results of a study by the name of the run, kept in its directory."""

    def __init__(self, design: Design, root: Path) -> None:
        """Read what is kept, and measure the finished runs that have no line yet.

        Raises ``DamagedError`` for a line that is no result.
        """
        self._design, self._root = design, root
        self._path = root / RESULTS
        self._lock = threading.Lock()
        self._found: dict[str, RunResult] = {}
        for number, line in enumerate(self._lines(), 1):
            place = f"{self._path}, line {number}"
            result = parse(RunResult, line, place, what="a run's result", remedy="delete it")
            self._found[result.run] = result

    def _lines(self) -> list[bytes]:
        return self._path.read_bytes().splitlines() if self._path.is_file() else []

    def get(self, run: StudyRun) -> RunResult | None:
        """Return a run's result, if it is trained and measured.

        Raises ``UserError`` where the result of that name is of other settings.
        """
        if (found := self._found.get(run.name)) is None:
            if not all(step.done() for step in run_steps(self._design, self._root, run)):
                return None
            found = self._add(run)
        if found.settings != json.loads(json.dumps(run.settings)):
            raise UserError(
                f"{self._path}: '{run.name}' was measured with other settings; choose another "
                "--output, or delete its line to train it again"
            )
        return found

    def _add(self, run: StudyRun) -> RunResult:
        result = _measure(self._root, run)
        with self._lock:
            self._found[run.name] = result
            with atomic_write(self._path) as file:
                for kept in self._found.values():
                    file.write(kept.model_dump_json().encode() + b"\n")
        return result

    def require_data(self) -> None:
        """Raise ``UserError`` for a result of other shards than those in the study's directory."""
        data = _digests(self._root)
        for name, result in self._found.items():
            for folder, digest in result.data.items():
                if digest != data[folder]:
                    raise UserError(
                        f"{self._path}: '{name}' was measured on other data ({folder} {digest[:12]}"
                        f", here {data[folder][:12]}); delete its line to train it again"
                    )


def _measure(root: Path, run: StudyRun) -> RunResult:
    """Read what a finished run measured from its directory."""
    path = root / "runs" / run.name
    seconds = [
        record.values[metric_names.STEP_SECONDS]
        for record in read_records(path / FILE_NAME)
        if isinstance(record, StepRecord) and metric_names.STEP_SECONDS in record.values
    ]
    return RunResult(
        run=run.name,
        settings=run.settings,
        data=_digests(root),
        step_seconds=statistics.median(seconds or [math.nan]),
        measures={name: _planned(curve, run) for name, curve in read_run(path).curves.items()},
    )


def _planned(curve: ReportCurve, run: StudyRun) -> Measure:
    """Return a curve at the run's checkpoints, without those that an interruption left."""
    by_step = {point.step: point.value for point in curve.points}
    return Measure(
        values=[by_step.get(step, math.nan) for step in run.checkpoints],
        baseline=curve.baseline.value if curve.baseline else None,
        lexical=curve.lexical,
    )


def _digests(root: Path) -> dict[str, str]:
    """Return a digest of the rows of each set of shards, whatever else its manifest says."""
    found = {}
    for name in DATA:
        shards = Manifest.load(root / name).shards
        found[name] = hashlib.sha256("".join(s.sha256 for s in shards).encode()).hexdigest()
    return found
