"""What MLflow shows of branches: each is a child of its trunk's run, which holds their curve.

The metric ``branches/MEASURE`` of the trunk's run has a point for the end of every branch, at the
FLOPs of the trunk up to it and of its decay. The trunk is looked up by the key that it chose, at
every connection, since it may reach the server after its branches.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from convbert.pretrain.run.branches import read_origin
from convbert.pretrain.tracking.mlflow_names import BRANCHES
from convbert.pretrain.tracking.mlflow_runs import PARENT_TAG, find_run
from convbert.pretrain.tracking.records import CurvePoint, MetricsRecord

_TAG = "convbert.branch"


class Trunk:
    """A branch's trunk on the server; that of a run that is no branch has nothing to say."""

    def __init__(self, run_dir: Path) -> None:
        self._origin = read_origin(run_dir)
        self.run_id: str | None = None
        """The trunk's run, None where the server does not have it."""

    def connect(self, client: Any, experiment_id: str) -> dict[str, str]:
        """Look the trunk up; return the tags of the branch."""
        self.run_id, origin = None, self._origin
        if origin is None:
            return {}
        tags = {f"{_TAG}_of": origin.trunk, f"{_TAG}_step": str(origin.step)}
        tags[f"{_TAG}_decay"] = str(origin.decay)
        if origin.key and (found := find_run(client, experiment_id, origin.key)):
            self.run_id = str(found.info.run_id)
            tags[PARENT_TAG] = self.run_id
        return tags

    def points(self, records: Iterable[MetricsRecord]) -> list[CurvePoint]:
        """Return the branch's measures at its end as points of the curve of all branches."""
        if self.run_id is None or self._origin is None:
            return []
        return [
            replace(record, curve=BRANCHES + record.curve)
            for record in records
            if isinstance(record, CurvePoint)
            and record.within is None
            and record.extra.get("step") == self._origin.end
        ]
