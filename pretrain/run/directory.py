"""A run is one directory: the resolved configuration, its environment, metrics and checkpoints."""

import json
import os
import shlex
from pathlib import Path

from pydantic import BaseModel, ValidationError

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import AbsentError, DamagedError, UserError
from convbert.pretrain.run.checkpoint_manifest import (
    checkpoint_directory,
    checkpoint_steps,
    looks_whole,
    verify,
)
from convbert.pretrain.run.continuation import require_same_past
from convbert.pretrain.run.environment import environment
from convbert.pretrain.run.identity import newest_manifest, require_same_run
from convbert.pretrain.settings.places import CHECKPOINTS, CONFIG, ENVIRONMENT, Place
from convbert.pretrain.settings.recipes import dump, load, recipe_names
from convbert.pretrain.settings.run import RunConfig

_SHOWN = 4  # runs that a message names


class _Started(BaseModel):
    recipe: str | None = None


def runs_in(folder: Path) -> list[Path]:
    """Return the runs right below a folder."""
    return sorted(file.parent for file in folder.glob(f"[!.]*/{CONFIG}"))


class RunDirectory:
    """Paths inside a run directory, and its creation."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The run's name: that of its directory."""
        return self.path.resolve().name

    @property
    def argument(self) -> str:
        """The directory as an argument of a command, where a recipe's name is always the recipe."""
        path = str(self.path)
        return shlex.quote(f"./{path}" if path in recipe_names() else path)

    @property
    def config_file(self) -> Path:
        """The resolved configuration."""
        return self.path / CONFIG

    @property
    def environment(self) -> Path:
        """What it was last started with: versions, command, host."""
        return self.path / ENVIRONMENT

    @property
    def checkpoints(self) -> Path:
        """Parent of all checkpoint directories."""
        return self.path / CHECKPOINTS

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
        try:
            return _Started.model_validate_json(self.environment.read_bytes()).recipe
        except (OSError, ValidationError):  # the next start writes it again
            return None

    def require(self, config: RunConfig) -> None:
        """Raise ``UserError`` where the directory holds a run that ``config`` would change.

        The settings in the newest checkpoint decide; where none can be read, ``config.yaml``. Keys
        that only change the execution (micro-batch, ZeRO stage, threads) may differ, and so may
        what only the updates after that checkpoint depend on (``continuation``). Without any
        checkpoint nothing is kept of the run that another one could not begin anew.
        """
        for place in (self.config_file, self.environment):
            if place.is_dir():
                raise UserError(f"{place}: is a directory where a file belongs; move it away")
        newest = newest_manifest(self.checkpoints)
        if newest is not None and newest.trainer.get("settings") is not None:
            place = checkpoint_directory(self.checkpoints, newest.step)
            require_same_run(str(place), newest, config, self.checkpoints)
        elif self.config_file.exists() and checkpoint_steps(self.checkpoints):
            old = load(self.config_file)
            require_same_past(self.config_file, old, config, newest, self.checkpoints)

    def prepare(
        self, config: RunConfig, recipe: str | None = None, becomes: Path | None = None
    ) -> None:
        """Create the directory, or let it go on with ``config``; raises what ``require`` raises.

        It lies beside what it ``becomes``, where it is to be renamed.

        Whoever calls this holds the claim on a directory that exists already.
        """
        self.require(config)
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.environment) as file:
            place = Place.of(self.path, becomes).model_dump(mode="json")
            described = {"recipe": recipe, **environment(), "place": place}
            file.write((json.dumps(described, indent=1) + "\n").encode())
        with atomic_write(self.config_file) as file:
            file.write(dump(config, self.path).encode())

    def is_written(self, config: RunConfig) -> bool:
        """Return whether ``config.yaml`` says exactly ``config``."""
        file = self.config_file
        return file.is_file() and file.read_bytes() == dump(config, self.path).encode()

    def finished(self, config: RunConfig) -> bool:
        """Return whether the last update of ``config`` is in a checkpoint that verifies."""
        folder = checkpoint_directory(self.checkpoints, config.steps)
        try:
            return folder.is_dir() and verify(folder).step == config.steps
        except DamagedError:
            return False

    def looks_finished(self, config: RunConfig) -> bool | None:
        """Return whether the last checkpoint looks whole, None where there is none; is quick."""
        folder = checkpoint_directory(self.checkpoints, config.steps)
        return looks_whole(folder) if folder.is_dir() else None

    def last_step(self) -> int:
        """Return the newest checkpoint's step, 0 without one."""
        return max(checkpoint_steps(self.checkpoints), default=0)

    def require_writable(self) -> None:
        """Raise ``UserError`` where this user cannot add results to the run."""
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise UserError(
                f"{self.path}: this user cannot write there, where results belong; copy the run "
                f"(`cp -a {self.path} COPY`) and take the copy"
            )

    def require_run(self) -> None:
        """Raise ``AbsentError`` where no run is, with the runs that lie below it."""
        if self.config_file.is_file():
            return
        if not self.path.is_dir():
            there = "it is a file" if self.path.exists() else "no such directory"
            raise AbsentError(f"{self.path}: not a run directory ({there}); check the path")
        below = [str(run) for run in runs_in(self.path)]
        shown = ", ".join(below[:_SHOWN]) + (", ..." if len(below) > _SHOWN else "")
        remedy = f"name one in it: {shown}" if below else "check the path"
        raise AbsentError(f"{self.path}: not a run directory (no config.yaml in it); {remedy}")

    def open(self) -> RunConfig:
        """Read the configuration of an existing run; raises ``AbsentError`` if there is none."""
        self.require_run()
        return load(self.config_file)
