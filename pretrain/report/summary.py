"""What a page says of each run in words: size, data, cost, checkpoints, events, machine."""

import itertools
import re
import time
from collections.abc import Sequence
from typing import Any

from convbert.pretrain.report.runs import ReportRun
from convbert.pretrain.run import metric_names
from convbert.pretrain.settings.differences import only_execution

_NOTHING = "–"
_MEASURES_AT_CHECKPOINTS = (metric_names.HELD_OUT_PREFIX, "pairs/")


def figures(name: str, run: ReportRun, price: float | None) -> dict[str, str]:
    """Return the first table's row about a run, which is called ``name`` there.

    ``price`` is that of a process hour; what was not recorded is a dash.
    """
    facts, settings, last = run.facts, run.settings, run.newest
    manifest = settings.get("data.manifest", "")
    shards = manifest.removesuffix("/manifest.json").rsplit("/", 1)[-1]
    done = 0 if last is None else last.step
    tokens = last and last.values.get(metric_names.TOKENS)
    hours = run.track.hours[-1] if run.track.hours else None
    row = {
        "run": name,
        "model": settings.get("model.preset", _NOTHING),
        "parameters": facts and short(facts.parameters),
        "data": shards if shards not in ("", "None") else _NOTHING,
        "updates": f"{done:,}" if run.steps is None else f"{done:,} of {run.steps:,}",
        "tokens read": tokens and short(tokens),
        "FLOPs": f"{run.track.flops[-1]:.2e}" if run.track.flops else None,
        "hardware": facts and f"{facts.processes} × {facts.hardware}",
        "process hours": None if hours is None else f"{hours:.3g}",
    }
    if facts is not None:
        row["data"] = ", ".join(f"{d.name} ({short(d.tokens)} tokens)" for d in facts.data)
    if price is not None:
        row["cost"] = None if hours is None else f"{hours * price:,.2f}"
    row["begun"] = run.begun and time.strftime("%Y-%m-%d", time.localtime(run.begun))
    return {key: text or _NOTHING for key, text in row.items()}


def left(run: ReportRun) -> str:
    """Return how long the remaining updates take at the newest speed, nothing at the end."""
    last = run.newest
    if last is None or run.steps is None:
        return ""
    updates = run.steps - last.step
    seconds = updates * last.values.get(metric_names.STEP_SECONDS, 0.0)
    if seconds <= 0:
        return ""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def short(number: float) -> str:
    """Return a large number as people say it: 13.5 M."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f}"


def groups(runs: Sequence[ReportRun], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the runs that differ in nothing but their seed: a name and the runs' numbers."""
    alike: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for number, run in enumerate(runs):
        if not run.parts and not run.origin:
            alike.setdefault(_without_seed(run), []).append(number)
    found = []
    for members in alike.values():
        seeds = [runs[number].settings.get("seed") for number in members]
        if len(members) > 1 and len(set(seeds)) == len(seeds):
            name = _common([names[number] for number in members])
            found.append({"name": f"{name}, {len(members)} seeds", "runs": members})
    return found


def _without_seed(run: ReportRun) -> tuple[tuple[str, str], ...]:
    kept = ((k, v) for k, v in run.settings.items() if not k.startswith("environment."))
    return tuple(sorted((k, v) for k, v in kept if k != "seed" and not only_execution(k)))


def _common(names: Sequence[str]) -> str:
    """Return what the names of several seeds begin with, without the word and the number."""
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    prefix = "".join(letters[0] for letters in alike)
    shared = re.sub(r"[-_./ ]*(seed)?[-_./ ]*\d*$", "", prefix)
    return shared or names[0]


def events(runs: Sequence[ReportRun], names: Sequence[str]) -> list[dict[str, Any]]:
    """List what happened to updates and checkpoints, in the order in which it did."""
    rows = [
        {
            "run": name,
            "at": event.at,
            "event": event.event.replace("_", " "),
            "action": event.action,
            "time": clock(event.time),
            "facts": ", ".join(f"{k.replace('_', ' ')} {v:.6g}" for k, v in event.facts.items()),
            "seconds": event.time,
        }
        for name, run in zip(names, runs, strict=True)
        for event in run.events
    ]
    return sorted(rows, key=lambda row: row["seconds"])


def checkpoints(run: ReportRun) -> tuple[list[str], list[dict[str, Any]]]:
    """List a run's checkpoints, kept or measured, with what was measured at them.

    Returns the names of the measures and a row for each checkpoint.
    """
    shown = [m for m in sorted(run.curves) if _at_checkpoints(m, run)]
    by_step: dict[int, dict[str, float]] = {step: {} for step in run.saved}
    for measure in shown:
        for point in run.curves[measure].points:
            if point.step:
                by_step.setdefault(point.step, {})[measure] = point.value
    rows = []
    for step, values in sorted(by_step.items()):
        saved = run.saved.get(step)
        where = run.track.at_step(step)
        written = None if saved is None else clock(saved)
        rows.append({"step": step, "where": where, "written": written, "measures": values})
    return shown, rows


def _at_checkpoints(measure: str, run: ReportRun) -> bool:
    return run.curves[measure].decides or measure.startswith(_MEASURES_AT_CHECKPOINTS)


def machine(run: ReportRun) -> list[tuple[str, str]]:
    """Say where a run trains or trained, and how busy its machines were last."""
    rows = []
    if (facts := run.facts) is not None:
        rows += [
            ("computes on", f"{facts.processes} × {facts.hardware}"),
            ("host of process 0", facts.host),
            ("SLURM job", f"{facts.job} on {facts.nodes or facts.host}" if facts.job else ""),
            ("execution", f"{facts.precision}, {facts.deepspeed}"
             + (", compiled" if facts.compile else ", eager")),
            ("code", facts.code),
            ("last start", clock(facts.started)),
        ]  # fmt: skip
    for sample in run.machines:
        busy = (
            f"{key.replace('_', ' ').replace('percentage', '%')} {value:.0f}"
            for key, value in sorted(sample.measured.items())
            if key.endswith("_percentage")
        )
        rows.append((f"{sample.system}, {clock(sample.time)}", ", ".join(busy)))
    return [row for row in rows if row[1]]


def clock(seconds: float) -> str:
    """Return a moment as people read it, in this machine's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
