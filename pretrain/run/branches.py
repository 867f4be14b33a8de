"""Branches: runs that begin at a checkpoint of a stable run and decay its learning rate to the end.

One long run, the trunk, at a constant rate then gives a whole curve of accuracy against FLOPs, each
point with a decay of its own (Hu et al. 2024, WSD; Haegele et al. 2024). A branch equals a ``wsd``
run that decays at the same update, to the last bit: everything random is a function of seed and
update. Where a branch comes from is in ``branch.json`` of its run directory.
"""

from pathlib import Path

from pydantic import Field

from convbert.models.errors import UserError
from convbert.models.schema import StrictModel, read_record, validate
from convbert.pretrain.run.schedule import decay_start
from convbert.pretrain.settings.optimizer import ScheduleConfig
from convbert.pretrain.settings.phase import PhaseConfig
from convbert.pretrain.settings.run import RunConfig

FILE_NAME = "branch.json"


class Origin(StrictModel):
    """Contents of ``branch.json``: the trunk of a run, and what of its cost is the trunk's."""

    trunk: str = Field(description="name of the run it branched off")
    path: Path = Field(description="where the trunk was; nothing reads it there")
    key: str | None = Field(description="the trunk's key in MLflow, if it is tracked")
    step: int = Field(gt=0, description="finished updates at the branching point")
    decay: int = Field(gt=0, description="updates of the decay")
    flops: float = Field(description="training FLOPs of the trunk up to there, as in the papers")
    end_flops: float = Field(description="training FLOPs in full: the trunk's and the decay's")
    hours: float | None = Field(description="process hours of the trunk up to there, if recorded")
    manifest: str = Field(description="SHA-256 of the manifest of the checkpoint it began with")

    @property
    def end(self) -> int:
        """The number of finished updates at which the rate has decayed."""
        return self.step + self.decay

    @property
    def family(self) -> str:
        """What all branches of one trunk share."""
        return self.key or str(self.path)


def read_origin(run_dir: Path) -> Origin | None:
    """Return where a run branched off; None for one that began at update 0."""
    path = run_dir / FILE_NAME
    if not path.is_file():
        return None
    remedy = "restore it, or remove it to treat the run as any other"
    return read_record(Origin, path, what="the origin of a branch", remedy=remedy)


def parse_decay(text: str, step: int) -> int:
    """Return the updates of a decay after ``step`` updates: a number, or a share such as ``10%``.

    Raises ``UserError`` unless it is a whole number of at least 1, or a positive percentage.
    """
    number = text.removesuffix("%").replace("_", "")
    try:
        updates = round(float(number) / 100 * step) if "%" in text else int(number)
    except (ValueError, OverflowError):  # not a number, not finite
        updates = 0
    if updates < 1:
        raise UserError(
            f"--decay {text}: at step {step:,} this is no update; give a number of updates such as "
            "1000, or a share of the step such as 10%"
        )
    return updates


def branch_config(file: Path, trunk: RunConfig, step: int, decay: int) -> RunConfig:
    """Return the configuration of a run that decays from update ``step`` over ``decay`` updates.

    Its updates before that are those of ``trunk``, which was read from ``file``. A phase of the
    trunk that begins behind the branch's end is left out. Raises ``UserError`` where the trunk's
    rate is not the stable one at ``step``, or would change again before the end.
    """
    total = step + decay
    phases = tuple(p for p in trunk.phases if p.start < total)
    begun = tuple(p for p in phases if p.start <= step)
    later = phases[len(begun) :]
    own = begun[-1] if begun and begun[-1].schedule else None
    if changing := [p for p in later if own or p.schedule or p.learning_rate]:
        raise UserError(
            f"{file}: a phase with another learning rate begins at update {changing[0].start:,}, "
            f"within the decay to {total:,}; decay over fewer updates"
        )
    _require_stable(file, trunk, own, step)
    begin = own.start if own else 0
    schedule = ((own and own.schedule) or trunk.schedule).model_copy(
        # Its product with the length of the schedule rounds to the updates of the decay.
        update={"name": "wsd", "decay_fraction": decay / (total - begin), "total_steps": None}
    )
    # Masks go on as the trunk's would, and so does what came before.
    masking = trunk.objective.masking.spanning(trunk.steps)
    objective = trunk.objective.model_copy(update={"masking": masking})
    changes: dict[str, object] = {"steps": total, "phases": phases, "objective": objective}
    if own:
        ours = own.model_copy(update={"schedule": schedule})
        changes["phases"] = (*begun[:-1], ours)
        # What came before it must not learn that the run is shorter now.
        spanned = {"total_steps": trunk.schedule.total_steps or trunk.steps}
        changes["schedule"] = trunk.schedule.model_copy(update=spanned)
    else:
        changes["schedule"] = schedule
    content = trunk.model_copy(update=changes).model_dump(mode="json")
    return validate(RunConfig, content, file)


def _require_stable(file: Path, trunk: RunConfig, own: PhaseConfig | None, step: int) -> None:
    """Raise ``UserError`` unless update ``step`` has the peak rate, which neither rises nor falls.

    ``own`` is the phase whose schedule is in force, if it is not that of the whole run.
    """
    schedule: ScheduleConfig = (own and own.schedule) or trunk.schedule
    begin = own.start if own else 0
    if schedule.name not in ("wsd", "constant"):
        raise UserError(
            f"{file}: schedule.name={schedule.name} changes the learning rate at every update; "
            "only a run with wsd or constant has a stable part to branch off"
        )
    if step - begin < schedule.warmup_steps:
        raise UserError(
            f"{file}: step {step:,} lies in the warm-up of {schedule.warmup_steps:,} updates from "
            f"{begin:,} on; branch off after it"
        )
    if schedule.name == "constant":
        return
    ends = [p.start for p in trunk.phases if own and p.start > own.start]
    last = min([*ends, trunk.steps])
    start = begin + decay_start(schedule, schedule.total_steps or last - begin)
    if step > start:
        raise UserError(
            f"{file}: step {step:,} lies in the run's own decay, which begins at {start:,}; branch "
            "off there or before"
        )
