"""What is kept of fine-tuning: files of results, joined over commands and processes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from convbert.data_pipeline import locks
from convbert.data_pipeline.atomic import atomic_write
from convbert.models.schema import StrictModel, parse
from convbert.pretrain.evaluation.finished import file_name
from convbert.pretrain.finetune.loop import FinetuneResult
from convbert.pretrain.finetune.recipe import FinetuneConfig
from convbert.pretrain.run.curve import Level, Spread

RESULTS = "results.json"


class StartResults(StrictModel):
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
        """Summarize the results of the seeds."""
        ordered = sorted(results, key=lambda r: r.seed)
        spreads = {
            split: {
                metric: Spread.of([r.scores[split][metric] for r in ordered]) for metric in scores
            }
            for split, scores in results[0].scores.items()
        }
        return cls(start=start, step=step, flops=flops, spreads=spreads, results=list(results))

    def main(self, metric: str) -> Spread:
        """Return the deciding measure on the dev split."""
        return self.spreads["dev"][metric]

    @property
    def file_name(self) -> str:
        """The starting point's name in file names."""
        return file_name(self.start)


class LexicalResults(StrictModel):
    """The baseline that sees only words: every measure's spread over the draws of training rows."""

    name: str
    spreads: dict[str, dict[str, Spread]]

    def level(self, split: str, metric: str) -> Level:
        """Return one measure, as it stands on a curve."""
        return Level(name=self.name, spread=self.spreads[split][metric])


class TaskResults(StrictModel):
    """Contents of ``results.json``: one task, all starting points, all seeds.

    ``data`` is a digest of the task and its rows (empty in older files), ``rows`` are the sizes of
    the splits, ``remarks`` what a reader of the measures should know.
    ``lexical`` is None for tasks without such a baseline, and in older files.
    """

    run: str
    task: str
    metric: str
    data: str = ""
    recipe: FinetuneConfig
    rows: dict[str, int]
    remarks: list[str] = Field(default_factory=list)
    starts: list[StartResults]
    lexical: LexicalResults | None = None

    def comparable(self, other: "TaskResults") -> bool:
        """Return whether both were measured in the same way, on the same rows."""
        same = ("run", "task", "metric", "recipe", "rows")
        alike = all(getattr(self, key) == getattr(other, key) for key in same)
        return alike and (self.data == other.data or "" in (self.data, other.data))


def write_results(results: TaskResults, folder: Path) -> TaskResults:
    """Write what was measured into ``folder``; return it with all that was measured before.

    ``checkpoints/START.json`` holds one starting point, ``results.json`` all of them that were
    measured with the same recipe on the same rows, by whichever command. Several processes may
    evaluate checkpoints of one run at the same time.
    """
    single = folder / "checkpoints"
    single.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        for start in results.starts:
            alone = results.model_copy(update={"starts": [start]})
            _write(alone, single / f"{start.file_name}.json")
        together = joined(results, folder)
        _write(together, folder / RESULTS)
    return together


def joined(results: TaskResults, folder: Path) -> TaskResults:
    """Add what else was measured in ``folder`` in the same way; the caller holds ``locked``."""
    found = [read_results(path) for path in sorted((folder / "checkpoints").glob("[!.]*.json"))]
    alike = [results, *(one for one in found if one.comparable(results))]
    starts = {start.start: start for one in alike for start in one.starts}
    ordered = sorted(starts.values(), key=lambda start: start.step)
    return results.model_copy(update={"starts": ordered})


def read_results(path: Path) -> TaskResults:
    """Read a file of results; raises ``DamagedError`` for anything else."""
    content = path.read_bytes()
    return parse(TaskResults, content, path, what="a file of results", remedy="move it away")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder of results while files are joined."""
    with locks.locked(folder / ".lock"):
        yield


def _write(results: TaskResults, path: Path) -> None:
    with atomic_write(path) as file:
        file.write(results.model_dump_json(indent=1).encode() + b"\n")
