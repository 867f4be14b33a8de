"""What ``convbert study`` does."""

import os
from pathlib import Path

from rich.console import Console

from convbert.pretrain.study.design import load_design
from convbert.pretrain.study.driver import Stopped, carry_out, show_plan, write_sweep
from convbert.pretrain.study.page import publish

STOPPED = 75


def study(
    design_file: Path | None,
    root: Path,
    *,
    flops: float | None,
    seeds: int | None,
    workers: int | None,
    only_plan: bool,
) -> int:
    """Carry out a study as far as it is not done, and write its page; return the exit code."""
    # Training has processes of its own; what this one loads of DeepSpeed must not ask for GPUs.
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    console = Console(highlight=False)
    design = load_design(design_file, flops=flops, seeds=seeds)
    show_plan(design, console)
    sweep = write_sweep(design, root)
    if only_plan:
        console.print(f"{sweep}: the runs, for `convbert submit {design.recipe} --array`")
        return 0
    count = workers or len(os.sched_getaffinity(0))
    try:
        carry_out(design, root, count, console)
    except Stopped:
        console.print(f"stopped; the same command continues {root}")
        return STOPPED
    console.print(f"{publish(design, root)}: the results; {root / 'report.html'}: the curves")
    return 0
