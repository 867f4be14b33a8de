"""A sweep of the learning rate: short runs of one configuration that differ in nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError
from convbert.models.schema import read_mapping
from convbert.pretrain.run import checks, metric_names
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.settings.run import RunConfig
from convbert.pretrain.study.design import scaled_rates
from convbert.pretrain.study.processes import Commands, side_by_side
from convbert.pretrain.study.steps import StudyStep, held_out_loss
from convbert.pretrain.tracking.metrics_log import FILE_NAME, read_records
from convbert.pretrain.tracking.records import StepRecord

FILE = "sweep.yaml"
_LAST_SHARE = 0.1
"""Of a run's updates, whose mean training loss stands for it where no held-out text is measured."""


@dataclass(frozen=True)
class Trial:
    """A run of the sweep: the factor of the peak rates, the rates, and its directory."""

    factor: float
    rates: dict[str, float]
    path: Path

    @property
    def overrides(self) -> list[str]:
        """The rates as ``key=value``."""
        return [f"{key}={value!r}" for key, value in self.rates.items()]


@dataclass(frozen=True)
class Score:
    """What a finished trial is judged by, ``nan`` where it has no loss."""

    loss: float
    held_out: bool


def plan_sweep(
    recipe: str, overrides: Sequence[str], factors: Sequence[float], root: Path
) -> tuple[RunConfig, list[Trial]]:
    """Return the configuration and its trials, and write ``root/sweep.yaml`` for an array of jobs.

    Trials of an earlier sweep in ``root`` come along, so that a grid can be extended. Raises
    ``UserError`` for what cannot train, and where ``root`` holds a sweep of other settings.
    """
    config = resolve(recipe, list(overrides))
    _refuse(config)
    checks.check(config, Tokenizer.load(config.data.tokenizer).digest, world=1)
    values = dict(text.split("=", 1) for text in overrides)
    common = {"recipe": recipe} | {key: yaml.safe_load(value) for key, value in values.items()}
    known = _known_factors(root, common)
    for factor, rates in known.items():
        expected = scaled_rates(config, factor)
        if rates != expected:
            raise UserError(
                f"{root / FILE}: x{factor:g} is a sweep of other settings (it has {rates}, these "
                f"settings give {expected}); choose another --output"
            )
    trials = [
        Trial(factor, scaled_rates(config, factor), root / f"x{factor:g}")
        for factor in sorted({*known, *factors})
    ]
    root.mkdir(parents=True, exist_ok=True)
    with atomic_write(root / FILE) as file:
        runs = {trial.path.name: common | trial.rates for trial in trials}
        file.write(yaml.safe_dump(runs, sort_keys=False).encode())
    return config, trials


def _refuse(config: RunConfig) -> None:
    if any(phase.learning_rate is not None for phase in config.phases):
        raise UserError(
            "phases: one of them has a learning_rate of its own; sweep each phase as a run"
        )
    if config.schedule.warmup_steps >= config.steps:
        raise UserError(
            f"schedule.warmup_steps={config.schedule.warmup_steps:,}: the warm-up takes all of "
            f"steps={config.steps:,}; set it to a tenth of them or less"
        )


def _known_factors(root: Path, common: dict[str, Any]) -> dict[float, dict[str, Any]]:
    """Return the factors of a sweep that ``root`` holds, each with the rates of its run."""
    if not (root / FILE).is_file():
        return {}
    found = {}
    for name, settings in read_mapping(root / FILE).items():
        rates = ("optimizer.learning_rate", "optimizer.muon.learning_rate")
        same = {key: value for key, value in settings.items() if key not in rates}
        wanted = {key: value for key, value in common.items() if key not in rates}
        if same != wanted:
            raise UserError(
                f"{root / FILE}: a sweep of other settings ({same}); choose another --output"
            )
        own = {key: value for key, value in settings.items() if key in rates}
        found[float(name.removeprefix("x"))] = own
    return found


def carry_out_sweep(
    recipe: str,
    overrides: Sequence[str],
    trials: Sequence[Trial],
    steps: int,
    workers: int,
    commands: Commands,
    console: Console,
) -> None:
    """Train the trials that are not finished; one that fails leaves its log and no score."""

    def train(trial: Trial, gpu: str | None) -> None:
        log = trial.path.parent / f"{trial.path.name}.log"
        arguments = ["pretrain", recipe, *overrides, *trial.overrides]
        arguments += ["--run-dir", str(trial.path), "--processes", "1"]
        title = f"{trial.path.name}: pretrain"
        done = checkpoint_directory(trial.path / "checkpoints", steps).is_dir
        try:
            commands.run(StudyStep(title, done, arguments), log, gpu)
        except (
            UserError
        ) as error:  # a rate that is too high ends a run; the others say which is not
            console.print(str(error), soft_wrap=True)

    waiting = [trial for trial in trials if score(trial, steps) is None]
    with commands.stopped_by_signals():
        side_by_side(waiting, train, workers, commands, console)


def score(trial: Trial, steps: int) -> Score | None:
    """Return what a trial is judged by, None where it has not finished its ``steps`` updates.

    The masked-token loss on held-out text at the end, where the run measures it; otherwise the mean
    over its last updates of the one in training.
    """
    log = trial.path / FILE_NAME
    if not checkpoint_directory(trial.path / "checkpoints", steps).is_dir() or not log.is_file():
        return None
    measured = held_out_loss(trial.path, steps)
    if measured is not None:
        return Score(measured, held_out=True)
    losses = [
        r.values[metric_names.LOSS_MLM]
        for r in read_records(log)
        if isinstance(r, StepRecord)
        and r.step > (1 - _LAST_SHARE) * steps
        and metric_names.LOSS_MLM in r.values
    ]
    return Score(sum(losses) / len(losses) if losses else math.nan, held_out=False)


def advice(trials: Sequence[Trial], steps: int) -> str:
    """Return which rates to take, or what to try next."""
    scores = {trial.factor: score(trial, steps) for trial in trials}
    losses = {f: s.loss for f, s in scores.items() if s and math.isfinite(s.loss)}
    if len(losses) < 2:
        return "fewer than two trials have a loss: nothing to choose between"
    best = min(losses, key=lambda f: (losses[f], f))
    (chosen,) = (trial for trial in trials if trial.factor == best)
    text = f"lowest loss: {' '.join(chosen.overrides)}"
    if best in (min(scores), max(scores)):
        further = best / 2 if best == min(scores) else best * 2
        text += (
            f"; it is at the end of the grid: the same command with --rates {further:g} extends it"
        )
    return text
