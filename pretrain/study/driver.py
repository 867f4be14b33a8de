"""Carry out a study: whatever has no result yet, one command after another.

So a study continues wherever it was interrupted: a finished step is skipped, and training goes on
from its newest checkpoint. Several runs go on side by side, one process each, which take the GPUs
in turn.
"""

import os
from pathlib import Path

from rich.console import Console

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError
from convbert.pretrain.study.design import DESIGN, Design, StudyRun
from convbert.pretrain.study.measured import Results
from convbert.pretrain.study.pace import kept_pace, measure_pace
from convbert.pretrain.study.processes import Commands, side_by_side
from convbert.pretrain.study.steps import data_steps, run_steps
from convbert.pretrain.study.tuning import known_runs


def with_pace(design: Design, root: Path, workers: int, console: Console) -> Design:
    """Return the design with what a second buys, measured on the study's data the first time."""
    if design.seconds is None or design.pace:
        return design
    if pace := kept_pace(root):
        known = design.model_copy(update={"pace": pace})
        _require_same(known, root)
        return known
    root.mkdir(parents=True, exist_ok=True)
    _require_same(design, root)
    commands = Commands(console, len(os.sched_getaffinity(0)))
    with commands.stopped_by_signals():
        for step in data_steps(design, root):
            commands.run(step)
    measured = measure_pace(design, root, workers, console.print)
    _keep_design(measured, root)
    return measured


def carry_out(design: Design, root: Path, workers: int, console: Console) -> None:
    """Do whatever is not done yet; raises ``UserError`` at the first command that fails.

    SIGINT and SIGTERM end it with ``Stopped`` once the runs in training have saved a checkpoint.
    """
    (root / "logs").mkdir(parents=True, exist_ok=True)
    _keep_design(design, root)
    commands = Commands(console, max(1, len(os.sched_getaffinity(0)) // workers))
    with commands.stopped_by_signals():
        for step in data_steps(design, root):
            commands.run(step)
        results = Results(design, root)
        results.require_data()

        def carry_out_run(run: StudyRun, gpu: str | None) -> None:
            for step in run_steps(design, root, run):
                commands.run(step, root / "logs" / f"{run.name}.log", gpu)
            results.get(run)  # a line for it, also where the next one fails

        # Where rates are tuned, the first runs decide which others there are.
        while waiting := [r for r in known_runs(design, results) if not results.get(r)]:
            side_by_side(waiting, carry_out_run, workers, commands, console)


def _keep_design(design: Design, root: Path) -> None:
    """Keep the design with the results; refuse to mix two designs in one directory."""
    _require_same(design, root)
    with atomic_write(root / DESIGN) as file:
        file.write(design.model_dump_json(indent=1).encode())


def _require_same(design: Design, root: Path) -> None:
    path = root / DESIGN
    if path.is_file() and path.read_text() != design.model_dump_json(indent=1):
        raise UserError(f"{path}: this directory holds another study; choose another --output")
