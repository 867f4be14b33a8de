"""A run is one directory: the resolved configuration, its environment, metrics and checkpoints."""

import json
from pathlib import Path

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import AbsentError
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory, checkpoint_steps
from convbert.pretrain.run.continuation import require_same_past
from convbert.pretrain.run.environment import environment
from convbert.pretrain.settings.recipes import CONFIG, dump, load
from convbert.pretrain.settings.run import RunConfig


class RunDirectory:
    """Paths inside a run directory, and its creation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The run's name: that of its directory."""
        return self.path.resolve().name

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / CONFIG

    @property
    def checkpoints(self) -> Path:
        """Parent of all checkpoint directories."""
        return self.path / "checkpoints"

    @property
    def execution(self) -> Path:
        """What was chosen for the machine: whether it compiles, and why."""
        return self.path / "execution.json"

    @property
    def damage(self) -> Path:
        """Records of the blocks of sequences that the run skips."""
        return self.path / "damage"

    @property
    def report(self) -> Path:
        """Plots and pages about the run."""
        return self.path / "report"

    @property
    def recipe(self) -> str | None:
        """The recipe that the run was started with, as far as that is known."""
        path = self.path / "environment.json"
        return json.loads(path.read_bytes()).get("recipe") if path.is_file() else None

    def prepare(self, config: RunConfig, recipe: str | None = None) -> None:
        """Create the directory, or check that it continues the same run.

        Raises ``UserError`` when the directory holds a run whose results ``config`` would change.
        Keys that only change the execution (micro-batch, ZeRO stage, threads) may differ, and
        so may what only the updates after the newest checkpoint depend on (``continuation``).
        """
        if self.config_file.exists():
            require_same_past(self.config_file, load(self.config_file), config, self.checkpoints)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.config_file) as file:
            file.write(dump(config).encode())
        with atomic_write(self.path / "environment.json") as file:
            described = {"recipe": recipe, **environment()}
            file.write((json.dumps(described, indent=1) + "\n").encode())

    def finished(self, config: RunConfig) -> bool:
        """Return whether the last update of ``config`` is in a checkpoint."""
        return checkpoint_directory(self.checkpoints, config.steps).is_dir()

    def last_step(self) -> int:
        """Return the newest checkpoint's step, 0 without one."""
        return max(checkpoint_steps(self.checkpoints), default=0)

    def open(self) -> RunConfig:
        """Read the configuration of an existing run; raises ``AbsentError`` if there is none."""
        if not self.config_file.is_file():
            raise AbsentError(f"{self.path}: not a run directory (no config.yaml in it)")
        return load(self.config_file)
