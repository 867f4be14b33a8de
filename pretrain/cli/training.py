"""The commands that train on this machine: ``pretrain`` and ``branch``."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convbert.pretrain.cli.arguments import FormatOption, NewRunDir, Overrides, Recipe, RunDir
from convbert.pretrain.cli.settings_command import SettingsCommand
from convbert.pretrain.run.tables import Output

if TYPE_CHECKING:
    from convbert.pretrain.checkpoints.branching import Branch
    from convbert.pretrain.run.claim import Claim
    from convbert.pretrain.run.directory import RunDirectory
    from convbert.pretrain.run.preparation import Planned

app = typer.Typer()
Processes = Annotated[
    int | None, typer.Option(help="Processes on this machine; default one per GPU, else 1.", min=1)
]


@app.command(cls=SettingsCommand)
def pretrain(
    recipe: Recipe,
    overrides: Overrides = None,
    run_dir: NewRunDir = None,
    processes: Processes = None,
) -> None:
    """Pretrain on this machine; continues by itself if the run directory has a checkpoint."""
    from convbert.pretrain.run.claim import claim_for_training
    from convbert.pretrain.run.preparation import plan_run
    from convbert.pretrain.training.launch import processes_here

    world = processes_here(processes)
    planned = plan_run(recipe, overrides or [], run_dir, world)
    run, config = planned.run, planned.config
    if run.finished(config):
        from convbert.pretrain.checkpoints import upload

        upload.complete(run.checkpoints, config.checkpoint)
        print(
            f"{run.path}: has finished its {config.steps:,} updates; raise steps to go on "
            "(docs/recovery.md says what becomes of the learning rate)"
        )
        return
    require_start_of(planned)
    # Held from before the first byte is written until the training ends, by process 0 from then on.
    claim = claim_for_training(run.path)
    try:
        planned.write()
        _train(run, world, config.threads, claim)
    finally:
        claim.leave()
    print(f"{run.path}: has finished its {config.steps:,} updates")
    print(
        f"next: convbert show {run.argument}, convbert finetune {run.argument} --task TASK "
        "(of `convbert tasks list`)"
    )


def require_start_of(planned: "Planned") -> None:
    """Refuse weights that a new run cannot start from, before its directory is written."""
    if planned.config.model.init_from is not None and not planned.run.last_step():
        from convbert.pretrain.exchange.initializing import require_start

        require_start(planned.config)


@app.command(cls=SettingsCommand)
def branch(
    run: RunDir,
    at: Annotated[
        list[int], typer.Option(help="Checkpoint to branch off at; repeat for several.", min=1)
    ],
    overrides: Overrides = None,
    decay: Annotated[
        str, typer.Option(help="Updates of the decay, or a share of the step: 1000, 10%.")
    ] = "10%",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where they go; default beside RUN.")
    ] = None,
    train: Annotated[
        bool, typer.Option("--run", help="Train the branches here, one after another.")
    ] = False,
    processes: Processes = None,
    form: FormatOption = "table",
) -> None:
    """Branch runs off a stable one that decay to the end: a curve from one long run."""
    from convbert.pretrain.checkpoints.branching import prepare_branches
    from convbert.pretrain.run.directory import RunDirectory
    from convbert.pretrain.training.launch import processes_here

    world = processes_here(processes) if train else processes or 1
    trunk = RunDirectory(run)
    branches = prepare_branches(
        trunk, at, decay, overrides=overrides or [], output=output, world=world
    )
    out = Output(form)
    _show(branches, out)
    if not train:
        out.note(
            "train each, here or on SLURM (`convbert submit` in place of `convbert pretrain`):"
        )
        for branch in branches:
            out.note(f"  convbert pretrain {branch.run.argument}")
    for branch in branches if train else ():
        _train(branch.run, world, branch.config.threads)
    places = shlex.join(map(str, (run, *(branch.run.path for branch in branches))))
    out.note(f"{'next' if train else 'then compare them'}: convbert report {places}")


def _show(branches: "list[Branch]", out: Output) -> None:
    rows, before, total = [], 0.0, 0.0
    for branch in branches:
        origin = branch.origin
        # The trunk is there already; each stretch of it counts once.
        total += origin.end_flops - before
        before = origin.flops
        rows.append(
            [branch.run.name, f"{origin.step:,}", f"{origin.end:,}"]
            + [f"{origin.end_flops:.3e}", f"{total:.3e}"]
        )
    headings = ("branch", "from update", "to", "FLOPs in full", "of all so far, trunk once")
    out.table(headings, rows)


def _train(
    run: "RunDirectory", world: int, threads: int | None, claim: "Claim | None" = None
) -> None:
    """Train to the end, under ``claim``; ends the command where that fails or is stopped."""
    from convbert.pretrain.run.exit_codes import STOPPED
    from convbert.pretrain.training.launch import launch, processes_here

    processes = "1 process" if world == 1 else f"{world} processes"
    print(f"{run.path}: starts {processes}; PyTorch and DeepSpeed load first", flush=True)
    status = launch(run.path, world, threads, claim)
    if status == STOPPED:
        again = f"convbert pretrain {run.argument}"
        again += f" --processes {world}" * (world != processes_here())
        print(f"stopped with a checkpoint; `{again}` continues", file=sys.stderr)
    if status:
        raise typer.Exit(status)
