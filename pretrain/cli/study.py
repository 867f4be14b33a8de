"""Commands that run others: ``quickstart``, ``study`` and ``sweep``."""

from pathlib import Path
from typing import Annotated

import typer

from convbert.models.errors import UserError
from convbert.pretrain.cli.arguments import FormatOption, Overrides, Recipe, between
from convbert.pretrain.cli.settings_command import SettingsCommand
from convbert.pretrain.run.tables import Output, counted, measured

app = typer.Typer()


@app.command()
def quickstart(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for everything it makes.")
    ] = Path("quickstart"),
) -> None:
    """Text to fine-tuned model on this machine in about ten minutes, each command shown."""
    from convbert.pretrain.run.exit_codes import STOPPED
    from convbert.pretrain.study.processes import Stopped
    from convbert.pretrain.study.quickstart import run

    try:
        run(output)
    except Stopped:
        print(f"stopped; the same command continues {output}")
        raise typer.Exit(STOPPED) from None


@app.command()
def study(
    design: Annotated[
        Path | None, typer.Argument(help="YAML file; default the shipped study of tiny models.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for everything it makes.")
    ] = Path("study"),
    flops: Annotated[
        float | None,
        typer.Option(
            help="Training FLOPs of each run, hardware convention.", callback=between(0, above=True)
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            help="Instead of FLOPs: seconds of updates of each run, as timed here at the start.",
            callback=between(0, above=True),
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of each variant.", min=1)] = None,
    workers: Annotated[
        int | None, typer.Option(help="Runs at once; default one per GPU, else per core.", min=1)
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show and write the plan.")] = False,
    form: FormatOption = "table",
) -> None:
    """Compare variants of the model at equal training cost; start it again to go on."""
    from rich.console import Console

    from convbert.pretrain.finetune.device import default_workers
    from convbert.pretrain.run.exit_codes import STOPPED
    from convbert.pretrain.study.design import load_design
    from convbert.pretrain.study.driver import carry_out, with_pace
    from convbert.pretrain.study.measured import Results
    from convbert.pretrain.study.pace import kept_pace
    from convbert.pretrain.study.page import write_study_page
    from convbert.pretrain.study.processes import Stopped
    from convbert.pretrain.study.steps import write_sweep
    from convbert.pretrain.study.tuning import known_runs

    console = Console(highlight=False, stderr=form != "table")
    if flops and seconds:
        raise UserError(f"--flops {flops:g} --seconds {seconds:g}: runs have one budget; give one")
    chosen = load_design(design, flops=flops, seconds=seconds, seeds=seeds)
    at_once = workers or default_workers()
    if plan and chosen.seconds and not kept_pace(output):
        raise UserError(
            f"--plan: how many updates {chosen.seconds:g} seconds buy is measured when the study "
            "starts; leave out --plan or give --flops"
        )
    try:
        chosen = with_pace(chosen, output, at_once, console)
    except Stopped:
        console.print(f"stopped; the same command continues {output}")
        raise typer.Exit(STOPPED) from None
    runs = known_runs(chosen, Results(chosen, output))
    first = {run.variant: run for run in reversed(runs)}
    tuned = f", {len(chosen.rate_factors)} learning rates of the first" * bool(chosen.rate_factors)
    Output(form).table(
        ("variant", "updates", "tokens", "hardware FLOPs", "papers' FLOPs"),
        [
            (r.variant, f"{r.steps:,}", f"{r.tokens:,}")
            + (f"{r.hardware_flops:.3e}", f"{r.papers_flops:.3e}")
            for r in (first[name] for name in chosen.variants)
        ],
        title=f"{counted(len(runs), 'run')}, {counted(chosen.seeds, 'seed')} per variant{tuned}",
    )
    sweep = write_sweep(chosen, output, runs)
    if plan:
        console.print(f"{sweep}: the runs, for `convbert submit {chosen.recipe} --array`")
        return
    try:
        carry_out(chosen, output, at_once, console)
    except Stopped:
        console.print(f"stopped; the same command continues {output}")
        raise typer.Exit(STOPPED) from None
    console.print(
        f"{write_study_page(chosen, output)}: the results; {output / 'report.html'}: the curves"
    )


@app.command(cls=SettingsCommand)
def sweep(
    recipe: Recipe,
    overrides: Overrides = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for the runs and the sweep's file.")
    ] = Path("sweep"),
    rates: Annotated[
        str, typer.Option(help="The configuration's peak learning rates times each of these.")
    ] = "0.5,1,2",
    workers: Annotated[
        int | None, typer.Option(help="Runs at once; default one per GPU, else per core.", min=1)
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only write the sweep, for an array of jobs.")
    ] = False,
    form: FormatOption = "table",
) -> None:
    """Try several learning rates in short runs and say which is best; start it again to go on."""
    import os

    from rich.console import Console

    from convbert.pretrain.finetune.device import default_workers
    from convbert.pretrain.run.exit_codes import STOPPED
    from convbert.pretrain.study import sweep as rate_sweep
    from convbert.pretrain.study.processes import Commands, Stopped

    given = overrides or []
    config, trials = rate_sweep.plan_sweep(recipe, given, _factors(rates), output)
    console = Console(highlight=False, stderr=form != "table")
    out = Output(form)
    columns = ("run", *(key.removeprefix("optimizer.") for key in trials[0].rates))
    runs = [(t.path.name, *(f"{rate:g}" for rate in t.rates.values())) for t in trials]
    if plan:
        out.table(columns, runs, title=f"{config.steps:,} updates each")
        out.note(
            f"{output / rate_sweep.FILE}: queue them with `convbert submit {recipe} --array "
            f"{output / rate_sweep.FILE} --run-dir {output}`, then repeat this command without "
            "--plan"
        )
        return
    at_once = workers or default_workers()
    commands = Commands(console, max(1, len(os.sched_getaffinity(0)) // at_once))
    try:
        rate_sweep.carry_out_sweep(recipe, given, trials, config.steps, at_once, commands, console)
    except Stopped:
        console.print(f"stopped; the same command continues {output}")
        raise typer.Exit(STOPPED) from None
    scores = [rate_sweep.score(trial, config.steps) for trial in trials]
    if not any(scores):
        raise UserError(f"{output}: no run has finished; see the logs in it")
    held_out = any(found.held_out for found in scores if found)
    text = "held-out text" if held_out else "training; evaluation.held_out measures other text"
    losses = [measured(found.loss) if found else "failed" for found in scores]
    out.table(
        (*columns, "masked-token loss"),
        [(*run, loss) for run, loss in zip(runs, losses, strict=True)],
        title=f"{config.steps:,} updates each; loss of {text}",
    )
    out.note(rate_sweep.advice(trials, config.steps))


def _factors(text: str) -> list[float]:
    """Return the numbers of ``0.5,1,2``; raises ``typer.BadParameter``."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--rates {text}: write numbers as in 0.5,1,2") from None
    between(0, 1e200, above=True)(found)  # a rate times it stays finite
    if len(set(found)) < len(found):
        raise typer.BadParameter(f"--rates {text}: names one of them twice")
    return found
