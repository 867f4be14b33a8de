"""Whole runs of ``convbert pretrain``, timed: ``python -m tests.benchmarks.whole_runs FOLDER``.

Data, DeepSpeed, guards, reports and tracking are included; nothing but the first updates is left
out. Each case is a recipe, a length and settings: ``small:128:compile=false``.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer

from convbert.pretrain.run import metric_names
from convbert.pretrain.run.metric_names import SECTIONS
from tests.benchmarks.runs import WholeRun, pretrain
from tests.benchmarks.sample_corpus import settings
from tests.benchmarks.table import machine

CASES = [
    "small:128:",
    "base:512:global_batch=128",
    # Both passes are replayed, the rest of the update is DeepSpeed's.
    "small:128:optimizer.bias_correction=true",
    # No compiler: PyTorch's own kernels in one graph.
    "small:128:cuda_graphs=true compile=false",
]


def main(
    corpus: Annotated[Path, typer.Argument(help="As written by sample_corpus.")],
    case: Annotated[list[str], typer.Option(help="RECIPE:LENGTH:SETTINGS.")] = CASES,
    updates: Annotated[int, typer.Option(help="Of each run.")] = 200,
    common: Annotated[str, typer.Option(help="Settings of all runs.")] = "",
    trace: Annotated[bool, typer.Option(help="Trace three updates of each.")] = False,
    output: Annotated[Path, typer.Option(help="Where runs and tables go.")] = Path("whole-runs"),
) -> None:
    """Train each case and print a markdown table, row by row."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    lines = [
        f"{machine(device)}, torch {torch.__version__}, whole runs of {updates} updates with data, "
        f"DeepSpeed and tracking, {time.strftime('%Y-%m-%d', time.gmtime())}; medians after the "
        "first 10 updates, seconds of the whole command",
        "",
        "| run | how | tokens/s | MFU | ms | data | forward | backward | optimizer | update "
        "| command s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    output.mkdir(parents=True, exist_ok=True)
    # Row by row: whoever ends this early keeps what is done.
    with (output / "whole-runs.md").open("a") as file:

        def say(line: str) -> None:
            print(line, flush=True)
            print(line, file=file, flush=True)

        say("\n".join(lines))
        runs = [_trained(text, corpus, updates, common, trace, output, say) for text in case]
        print(file=file)
    raise typer.Exit(int(not all(runs)))


def _trained(
    text: str,
    corpus: Path,
    updates: int,
    common: str,
    trace: bool,
    output: Path,
    say: Callable[[str], None],
) -> bool:
    """Train a case and say its row; return whether it succeeded."""
    recipe, length, own = text.split(":", 2)
    changed = [
        f"steps={updates}",
        "schedule={warmup_steps: 1}",
        "checkpoint={every: 1000000}",
        "evaluation={held_out: null, pairs: null, show: []}",
        "tracking.log_every=10",
        f"tracking.uri=sqlite:///{output.resolve() / 'mlflow.db'}",
        *settings(corpus, int(length)),
        *common.split(),
        *own.split(),
    ]
    if trace:
        changed.append(f"profile={{start: {updates - 4}, steps: 3}}")
    try:
        run = pretrain(recipe, changed, output / re.sub(r"[^\w=.-]+", "_", text))
    except RuntimeError as error:
        print(error, flush=True)
        say(f"| {text} | **failed** | | | | | | | | | |")
        return False
    say(_row(text, run))
    return True


def _row(text: str, run: WholeRun) -> str:
    seconds = run.median(metric_names.STEP_SECONDS)
    shares = {s: run.median(metric_names.section_seconds(s)) / seconds for s in SECTIONS}
    cells = [
        text,
        run.chosen,
        f"{run.median(metric_names.TOKENS_PER_SECOND):,.0f}",
        f"{run.median(metric_names.MFU):.1%}",
        f"{seconds * 1e3:,.2f}",
        *(f"{shares[s]:.1%}" for s in ("data", "forward", "backward", "optimizer", "update")),
        f"{run.wall:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    typer.run(main)
