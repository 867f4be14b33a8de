"""What is kept of fine-tunings: ``results.json``, and the predictions of the best seed."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.loop import FinetuneResult
from convbert.pretrain.finetune.recipe import FinetuneConfig
from convbert.pretrain.finetune.runs import Spread
from convbert.pretrain.finetune.submission import write_predictions

RESULTS = "results.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StartResults(_Record):
    """One starting point: its cost, and every measure's median and spread over the seeds."""

    start: str
    step: int
    flops: float
    spreads: dict[str, dict[str, Spread]]
    results: list[FinetuneResult]

    @classmethod
    def of(
        cls, start: str, step: int, flops: float, results: Sequence[FinetuneResult]
    ) -> "StartResults":
        """Summarise the results of the seeds."""
        spreads = {
            split: {metric: Spread.of(results, split, metric) for metric in scores}
            for split, scores in results[0].scores.items()
        }
        return cls(start=start, step=step, flops=flops, spreads=spreads, results=list(results))

    def main(self, metric: str) -> Spread:
        """Return the deciding measure on the dev split."""
        return self.spreads["dev"][metric]


class TaskResults(_Record):
    """Contents of ``results.json``: one task, all starting points, all seeds.

    ``rows`` are the sizes of the splits.
    """

    run: str
    task: str
    metric: str
    recipe: FinetuneConfig
    rows: dict[str, int]
    starts: list[StartResults]

    def joined(self, earlier: "TaskResults") -> "TaskResults":
        """Add the other starting points of ``earlier``, if it measured in the same way."""
        same = ("run", "task", "metric", "recipe", "rows")
        if any(getattr(self, key) != getattr(earlier, key) for key in same):
            return self
        own = {start.start for start in self.starts}
        kept = [start for start in earlier.starts if start.start not in own]
        starts = sorted([*kept, *self.starts], key=lambda start: start.step)
        return self.model_copy(update={"starts": starts})


def write_results(results: TaskResults, data: TaskData, folder: Path) -> TaskResults:
    """Write ``results.json`` and, where they were kept, predictions into ``folder``.

    Checkpoints that were measured before, with the same recipe on the same rows, stay in the file;
    what it holds is returned. ``predictions/START/`` holds those of the seed that is best on the
    dev split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for start in results.starts:
        best = max(start.results, key=lambda result: result.score)
        for split, predictions in best.predictions.items():
            place = folder / "predictions" / start.start.replace(" ", "-")
            write_predictions(data, split, predictions, place)
    path = folder / RESULTS
    if path.is_file():
        results = results.joined(read_results(path))
    with atomic_write(path) as file:
        file.write(results.model_dump_json(indent=1).encode() + b"\n")
    return results


def read_results(path: Path) -> TaskResults:
    """Read ``results.json``; raises ``UserError`` for anything else."""
    try:
        return TaskResults.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path}: not a file of results; move it away") from error
