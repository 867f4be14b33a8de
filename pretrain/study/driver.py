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
from convbert.pretrain.study.design import Design, StudyRun
from convbert.pretrain.study.measured import Results
from convbert.pretrain.study.processes import Commands, side_by_side
from convbert.pretrain.study.steps import data_steps, run_steps
from convbert.pretrain.study.tuning import known_runs


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
    path, content = root / "design.json", design.model_dump_json(indent=1)
    if path.is_file() and path.read_text() != content:
        raise UserError(f"{path}: this directory holds another study; choose another --output")
    with atomic_write(path) as file:
        file.write(content.encode())
