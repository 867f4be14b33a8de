"""From a recipe to a run directory that can be trained."""

from pathlib import Path

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.run import checks
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.tracking_uri import resolve_uri
from convbert.pretrain.settings.recipes import names_run, resolve
from convbert.pretrain.settings.run import RunConfig


def prepare(
    recipe: str, overrides: list[str], run_dir: Path | None, world: int
) -> tuple[RunDirectory, RunConfig]:
    """Resolve and check a configuration for ``world`` processes and write the run directory.

    In the place of a recipe a run directory stands for its own configuration and continues itself,
    unless ``run_dir`` is another one.
    """
    if names_run(recipe):
        name, default = RunDirectory(Path(recipe)).recipe, Path(recipe)
    else:
        name, default = Path(recipe).stem, Path("runs") / Path(recipe).stem
    config = resolve(recipe, overrides)
    tokenizer = Tokenizer.load(config.data.tokenizer)
    checks.check(config, tokenizer.digest, world)
    run = RunDirectory(run_dir or default)
    resolve_uri(run.path, config.tracking.uri)  # refused here, not by the processes
    run.prepare(config.absolute(), name)
    return run, run.open()
