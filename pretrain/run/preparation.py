"""From a recipe to a run directory that can be trained."""

from pathlib import Path

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.pretrain.run import checks
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.settings.run import RunConfig


def prepare(
    recipe: str, overrides: list[str], run_dir: Path | None, world: int
) -> tuple[RunDirectory, RunConfig]:
    """Resolve and check a configuration for ``world`` processes and write the run directory."""
    config = resolve(recipe, overrides)
    tokenizer = Tokenizer.load(config.data.tokenizer)
    checks.check(config, tokenizer.digest, world)
    run = RunDirectory(run_dir or Path("runs") / Path(recipe).stem)
    run.prepare(config.absolute(), Path(recipe).stem)
    return run, run.open()
