"""Plans beside real runs on this machine: ``python -m tests.benchmarks.plans FOLDER``.

For each case it makes the plan that ``convbert plan --measure`` shows, then trains the run, and
compares hours. The aim is a difference of at most 15 %. ``by the table`` is what ``compile: auto``
expects without training anything, from the measurements in ``pretrain/engine/compiled.yaml``.
"""

import re
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from convbert.pretrain.engine.execution import choose, expected_seconds, work_left
from convbert.pretrain.engine.peak import peak_flops
from convbert.pretrain.engine.precision import computes_in_bfloat16, with_precision
from convbert.pretrain.planning.show import measured_duration
from convbert.pretrain.run.timeline import Timeline
from convbert.pretrain.settings.recipes import resolve
from tests.benchmarks.runs import pretrain
from tests.benchmarks.sample_corpus import settings
from tests.benchmarks.table import machine

CASES = [
    "quickstart:128:400",
    "tiny:128:200",
    "small:128:40 global_batch=16",
]


def main(
    corpus: Annotated[Path, typer.Argument(help="As written by sample_corpus.")],
    case: Annotated[list[str], typer.Option(help="RECIPE:LENGTH:UPDATES SETTINGS.")] = CASES,
    processes: Annotated[int, typer.Option(help="Of each run.")] = 1,
    output: Annotated[Path, typer.Option(help="Where runs and the table go.")] = Path("plans"),
) -> None:
    """Print a markdown table of planned and real minutes."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    lines = [
        f"{machine(device.type)}, torch {torch.__version__}, {processes} processes, "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}",
        "",
        "| run | how | planned by --measure, min | real, min | ratio | by the table, min | ratio |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for text in case:
        lines.append(_row(text, corpus, processes, device, output))
        print(lines[-1], flush=True)
    table = "\n".join(lines)
    print(f"\n{table}", flush=True)
    output.mkdir(parents=True, exist_ok=True)
    with (output / "plans.md").open("a") as file:
        file.write(table + "\n\n")


def _row(text: str, corpus: Path, processes: int, device: torch.device, output: Path) -> str:
    head, *own = text.split()
    recipe, length, updates = head.split(":")
    overrides = [
        f"steps={updates}",
        "schedule={warmup_steps: 1}",
        "checkpoint={every: 1000000}",
        "evaluation={held_out: null, pairs: null, show: []}",
        "tracking.uri=off",
        *settings(corpus, int(length)),
        *own,
    ]
    asked = resolve(recipe, overrides)
    planned = measured_duration(recipe, overrides, asked, Timeline.load(asked), processes)
    run = pretrain(recipe, overrides, output / re.sub(r"[^\w=.-]+", "_", text), processes)
    real = run.training_seconds / 60
    minutes, table = planned.fewest * 60, _by_the_table(recipe, overrides, processes, device) / 60
    cells = [text, run.chosen, f"{minutes:.2f}", f"{real:.2f}", f"{minutes / real:.2f}"]
    return f"| {' | '.join([*cells, f'{table:.2f}', f'{table / real:.2f}'])} |"


def _by_the_table(recipe: str, overrides: list[str], processes: int, device: torch.device) -> float:
    config = with_precision(resolve(recipe, overrides), bfloat16=computes_in_bfloat16(device))
    timeline = Timeline.load(config)
    networks = config.model.build(timeline.corpora[0].vocab_size)
    rate = peak_flops(device, config.precision, None)
    work = work_left(config, networks, timeline, 0, processes, rate)
    chosen = choose(config, device, networks, work)
    return expected_seconds(config, networks, work, compiles=chosen.compile)


if __name__ == "__main__":
    typer.run(main)
