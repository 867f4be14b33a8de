"""Decide whether a run may continue with changed settings.

It may if every finished update would have been the same.

``steps``, the schedules and the phases decide the learning rate, the data and the masks of each
update. They may change for updates to come: the run then equals one that had the new settings from
the start. Where a finished update would have been another, the change is refused with what can be
done instead.
"""

from pathlib import Path

from convbert.models.errors import UserError
from convbert.pretrain.run.checkpoint_manifest import (
    CheckpointManifest,
    checkpoint_steps,
)
from convbert.pretrain.run.data_order import DataOrder
from convbert.pretrain.run.schedule import Sampling, sampling
from convbert.pretrain.run.timeline import Rate, rate_of, stretches
from convbert.pretrain.settings.differences import differences
from convbert.pretrain.settings.run import RunConfig

_MOVING = ("schedule", "temperature_schedule")  # of objective.masking
_DECIDE_UPDATES = (
    "steps:",
    "schedule.",
    "phases",
    "optimizer.learning_rate:",
    *(f"objective.masking.{key}" for key in _MOVING),
)


def require_same_past(
    file: Path | str,
    old: RunConfig,
    new: RunConfig,
    newest: CheckpointManifest | None,
    checkpoints: Path,
) -> None:
    """Raise ``UserError`` unless ``new`` leaves all updates up to a checkpoint alike.

    ``file`` is where ``old`` was read. Without a checkpoint (None) no update is finished.
    """
    changed = differences(old, new)
    if others := [change for change in changed if not change.startswith(_DECIDE_UPDATES)]:
        raise UserError(
            f"{file}: this run was started with other settings ({'; '.join(others[:5])}); choose "
            "another --run-dir or restore them"
        )
    if not changed or newest is None:
        return
    finished = newest.step
    if new.steps < finished:
        raise UserError(
            f"{file}: steps={new.steps} is less than the {finished} updates that are finished; "
            "raise it or choose another --run-dir"
        )
    batches = DataOrder(new.global_batch, newest.trainer.get("skipped")).number(finished)
    differing = _first_difference(old, new, finished, batches)
    if differing is not None:
        update, what = differing
        steps = [step for step in checkpoint_steps(checkpoints) if step <= finished]
        raise UserError(
            f"{file}: with the changed settings ({'; '.join(changed[:5])}) {what}, but "
            f"{finished} updates are finished; {_remedy(old, finished, steps, update)}"
        )


def _first_difference(
    old: RunConfig, new: RunConfig, finished: int, batches: int
) -> tuple[int, str] | None:
    """Return the first update, from 0, that the two configurations make differ, and how."""
    before, after = _Updates(old), _Updates(new)
    for update in range(max(finished, batches)):
        if before.data(update) != after.data(update):
            return update, f"update {update + 1} would have read other data or another batch"
        rates = before.rate(update), after.rate(update)
        if update < finished and rates[0] != rates[1]:
            rate = f"a learning rate of {rates[1]:.4g}, not {rates[0]:.4g}"
            return update, f"update {update + 1} would have had {rate}"
        draws = before.sampling(update), after.sampling(update)
        if update < finished and draws[0] != draws[1]:
            return (
                update,
                f"update {update + 1} would have had {_named(draws[1])}, not {_named(draws[0])}",
            )
    return None


def _named(drawn: Sampling) -> str:
    return f"a mask rate of {drawn.mask_fraction:.4g} at temperature {drawn.temperature:.4g}"


class _Updates:
    """The learning rate, the data and the masks that a configuration gives each update."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._stretches: list[tuple[int, Rate, object]] = []
        for number, (change, end) in enumerate(stretches(config)):
            batch = change.global_batch or config.global_batch
            data = (number, batch, change.data(config.data).blend)
            self._stretches.append((end, rate_of(config, change, end), data))

    def _at(self, update: int) -> tuple[int, Rate, object]:
        return next((s for s in self._stretches if update < s[0]), self._stretches[-1])

    def rate(self, update: int) -> float:
        """Return its learning rate."""
        return self._at(update)[1](update)

    def sampling(self, update: int) -> Sampling:
        """Return how it masks and samples."""
        return sampling(self._config.objective.masking, update, self._config.steps)

    def data(self, update: int) -> object:
        """Return what decides the sequences and the random numbers of its global batch."""
        return self._at(update)[2]


def _remedy(old: RunConfig, finished: int, steps: list[int], update: int) -> str:
    """Return the ways to go on where the new settings would change ``update`` and later ones."""
    total = old.schedule.total_steps or old.steps
    masking = old.objective.masking
    kept = [
        f"objective.masking.{key}.total_steps={schedule.total_steps or old.steps} "
        for key in _MOVING
        if (schedule := getattr(masking, key)) is not None
    ]
    ways = [
        f"keep the schedule as it was and give what follows its own: schedule.total_steps={total} "
        f"{''.join(kept)}"
        f"'phases=[{{start: {finished}, learning_rate: RATE, schedule: {{name: NAME, "
        "warmup_steps: N}}]'"
    ]
    if usable := [step for step in steps if step <= update]:
        ways.append(
            f"remove the checkpoints after step {usable[-1]}, whose updates would be the same"
        )
    return ", or ".join([*ways, "choose another --run-dir"])
