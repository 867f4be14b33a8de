"""What ``convbert study`` does."""

from pathlib import Path

from rich.console import Console

from convbert.pretrain.finetune.device import default_workers
from convbert.pretrain.run.exit_codes import STOPPED
from convbert.pretrain.study.design import load_design
from convbert.pretrain.study.driver import Stopped, carry_out, show_plan, write_sweep
from convbert.pretrain.study.page import publish


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
    console = Console(highlight=False)
    design = load_design(design_file, flops=flops, seeds=seeds)
    show_plan(design, console)
    sweep = write_sweep(design, root)
    if only_plan:
        console.print(f"{sweep}: the runs, for `convbert submit {design.recipe} --array`")
        return 0
    try:
        carry_out(design, root, workers or default_workers(), console)
    except Stopped:
        console.print(f"stopped; the same command continues {root}")
        return STOPPED
    console.print(f"{publish(design, root)}: the results; {root / 'report.html'}: the curves")
    return 0
