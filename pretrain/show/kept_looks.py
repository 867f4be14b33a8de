"""What the checkpoints of a run filled into masks while it trained: a file for each of them."""

from pathlib import Path

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.schema import StrictModel, read_record
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_step
from convbert.pretrain.show.page import spread
from convbert.pretrain.show.records import Point, Sample, Series

MOST_POINTS = 24
"""Checkpoints on a page: of a long run, these are spread evenly."""


class KeptLooks(StrictModel):
    """Contents of ``report/samples/step-N.json``: the texts, and what one checkpoint filled in."""

    samples: list[Sample]
    point: Point


def folder_of(run_dir: Path) -> Path:
    """Return where a run keeps them."""
    return run_dir / "report" / "samples"


def keep(run_dir: Path, step: int, looks: KeptLooks) -> None:
    """Write what the checkpoint of ``step`` filled in."""
    folder = folder_of(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(checkpoint_directory(folder, step).with_suffix(".json")) as file:
        file.write(looks.model_dump_json(indent=1).encode() + b"\n")


def kept_series(run_dir: Path, until: int | None = None) -> Series | None:
    """Return what the checkpoints of a run filled in, up to step ``until``; None without any.

    Texts that were changed since begin the series anew.
    """
    steps = _steps(run_dir)
    known = [step for step in steps if until is None or step <= until]
    remedy = "remove it"
    found = [
        read_record(KeptLooks, steps[step], what="what a checkpoint filled in", remedy=remedy)
        for step in spread(known, MOST_POINTS)
    ]
    if not found:
        return None
    samples = found[-1].samples
    points = [kept.point for kept in found if kept.samples == samples]
    name = run_dir.resolve().name
    return Series(source=name, samples=samples, share=0.0, seed=0, points=points)


def _steps(run_dir: Path) -> dict[int, Path]:
    found = ((checkpoint_step(p.with_suffix("")), p) for p in folder_of(run_dir).glob("*.json"))
    return dict(sorted((step, path) for step, path in found if step is not None))
