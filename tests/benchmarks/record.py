"""Make a row of ``docs/benchmarks/records.md``: ``python -m tests.benchmarks.record FOLDER``.

The record is the time from the start of the command to a fixed loss of masked tokens of held-out
text, on two CPU cores: start, compilation, checkpoints and tracking count, measuring the
checkpoints afterwards does not. Text, tokenizer, shards and held-out text are the study's
(``pretrain/study/tiny.yaml``); everything else may be changed to win.
"""

import json
import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import Annotated

import typer

from convbert.pretrain.run import metric_names
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.study.design import load_design
from convbert.pretrain.study.steps import data_steps
from tests.benchmarks.runs import WholeRun, convbert, pretrain
from tests.benchmarks.table import machine

TARGET = 5.5  # the study's ConvBERT reached 5.42 in 647 updates
LOSS = metric_names.held_out(metric_names.LOSS_MLM)


def main(
    folder: Annotated[Path, typer.Argument(help="Data are made or found here, runs kept.")],
    settings: Annotated[list[str] | None, typer.Argument(help="KEY=VALUE of the run.")] = None,
    recipe: Annotated[str, typer.Option(help="Recipe of the run.")] = "study",
    processes: Annotated[int, typer.Option(help="Of the run.")] = 2,
    design: Annotated[
        Path | None, typer.Option(help="Design whose data are used; default: the study.")
    ] = None,
    target: Annotated[float, typer.Option(help="Loss to reach.")] = TARGET,
    checkpoints: Annotated[int, typer.Option(help="Points of the curve.")] = 12,
    name: Annotated[str, typer.Option(help="Of the run's directory.")] = "",
    output: Annotated[Path | None, typer.Option(help="Append the row to this file.")] = None,
) -> None:
    """Train a run, measure its checkpoints on held-out text and print the row."""
    given = settings or []
    root = folder.resolve()
    root.mkdir(parents=True, exist_ok=True)
    for step in data_steps(load_design(design), root):
        # Labeled data play no part here.
        if not step.done() and step.arguments[0] != "tasks":
            convbert(*step.arguments, log=root / "data.log")
    path = root / "records" / (name or time.strftime("%Y%m%d-%H%M%S", time.gmtime()))
    run, begun = _train(root, path, recipe, given, processes, checkpoints)
    convbert("evaluate", str(path), "--held-out", str(root / "held-out"), log=root / "data.log")
    curve = _curve(run, begun)
    row = _row(curve, target, recipe, given, processes)
    print(row)
    (path / "record.json").write_text(json.dumps({"row": row, "curve": curve}) + "\n")
    if output is not None:
        with output.open("a") as file:
            file.write(row + "\n")


def _train(
    root: Path, path: Path, recipe: str, given: list[str], processes: int, checkpoints: int
) -> tuple[WholeRun, float]:
    steps = resolve(recipe, given).steps
    every = max(1, steps // checkpoints)
    fixed = [
        f"data.manifest={root / 'shards' / 'manifest.json'}",
        f"data.tokenizer={root / 'tokenizer'}",
        f"checkpoint={{every: {every}, keep_last: {checkpoints + 1}}}",
        f"tracking={{uri: 'off', log_every: {every}}}",
    ]
    begun = time.time()
    return pretrain(recipe, [*given, *fixed], path, processes), begun


def _curve(run: WholeRun, begun: float) -> list[tuple[float, float]]:
    """Return (seconds since the command began, held-out loss) by checkpoint."""
    times = {record.step: record.time - begun for record in run.steps()}
    losses = run.curve(LOSS)
    return [(times[step], loss) for step, loss in sorted(losses.items()) if step in times]


def seconds_to(curve: list[tuple[float, float]], target: float) -> float | None:
    """Return when the curve first reaches the target, on a line between two checkpoints."""
    before: tuple[float, float] | None = None
    for at, loss in curve:
        if loss <= target:
            if before is None:
                return at
            share = (before[1] - target) / (before[1] - loss)
            return before[0] + share * (at - before[0])
        before = (at, loss)
    return None


def _row(
    curve: list[tuple[float, float]], target: float, recipe: str, given: list[str], processes: int
) -> str:
    reached = seconds_to(curve, target)
    seconds = f"{reached:,.0f}" if reached is not None else f"not in {curve[-1][0]:,.0f}"
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    options = [f"--recipe {recipe}", f"--processes {processes}", *map(shlex.quote, given)]
    shown = " ".join(f"{at:.0f}:{loss:.2f}" for at, loss in curve)
    cells = [
        time.strftime("%Y-%m-%d", time.gmtime()),
        seconds,
        commit or "?",
        f"`python -m tests.benchmarks.record FOLDER {' '.join(options)}`",
        f"{machine('cpu')}, {os.cpu_count()} cores",
        shown,
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    typer.run(main)
