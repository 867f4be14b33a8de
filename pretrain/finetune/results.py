"""What is kept of fine-tunings: ``results.json``, and the predictions of the best seed."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from convbert.data_pipeline.atomic import atomic_write
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
    """Contents of ``results.json``: one task, all starting points, all seeds."""

    run: str
    task: str
    metric: str
    recipe: FinetuneConfig
    starts: list[StartResults]


def write_results(results: TaskResults, data: TaskData, folder: Path) -> None:
    """Write ``results.json`` and, where they were kept, predictions into ``folder``.

    ``predictions/START/`` holds those of the seed that is best on the dev split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for start in results.starts:
        best = max(start.results, key=lambda result: result.score)
        for split, predictions in best.predictions.items():
            place = folder / "predictions" / start.start.replace(" ", "-")
            write_predictions(data, split, predictions, place)
    with atomic_write(folder / RESULTS) as file:
        file.write(results.model_dump_json(indent=1).encode() + b"\n")
