"""The steps of a study: commands of the command line, each skipped when its result exists."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from convbert.data_pipeline.atomic import atomic_write
from convbert.pretrain.finetune.task import TaskSpec, load_task
from convbert.pretrain.run import metric_names
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory
from convbert.pretrain.study.design import Design, StudyRun
from convbert.pretrain.tracking.metrics_log import FILE_NAME, read_records
from convbert.pretrain.tracking.records import CurvePoint

DATA = ("shards", "held-out")
"""The sets of shards in a study's directory: trained on, measured on."""


@dataclass(frozen=True)
class StudyStep:
    """A command (``arguments`` of ``convbert``), and ``done``: whether its result exists."""

    title: str
    done: Callable[[], bool]
    arguments: list[str]


def data_steps(design: Design, root: Path) -> list[StudyStep]:
    """List what comes before training: text, labeled data, tokenizer, two sets of shards."""
    corpus, tokenizer, tasks = root / "corpus", root / "tokenizer", _task_data(design, root)
    texts = [corpus / name for name in design.texts]
    held_out = [corpus / name for name in design.held_out]

    def shards(name: str, inputs: list[Path]) -> StudyStep:
        arguments = ["shards", "build", *map(str, inputs), "-o", str(root / name)]
        arguments += ["-t", str(tokenizer), "--packing", "full"]
        arguments += ["--seq-len", str(design.sequence_length)]
        return StudyStep(f"Build {name}", (root / name).is_dir, arguments)

    return [
        StudyStep(
            "Fetch text",
            lambda: not design.corpora or all(p.is_file() for p in (*texts, *held_out)),
            ["corpus", "fetch", *design.corpora, "-o", str(corpus)],
        ),
        StudyStep(
            "Fetch labeled data",
            lambda: all(load_task(name, tasks).train.is_file() for name in design.fetch_tasks),
            ["tasks", "fetch", *design.fetch_tasks, "-o", str(tasks)],
        ),
        StudyStep(
            "Train a tokenizer",
            tokenizer.is_dir,
            ["tokenizer", "train", *map(str, texts), "-o", str(tokenizer), "--lowercase"]
            + ["--vocab-size", str(design.vocab_size), "--max-sentences", "60000"],
        ),
        *map(shards, DATA, (texts, held_out)),
    ]


def run_steps(design: Design, root: Path, run: StudyRun) -> list[StudyStep]:
    """List the commands of one run: train, held-out text, probes, fine-tuning."""
    path = root / "runs" / run.name
    tasks = ["--data-dir", str(_task_data(design, root))]
    settings = [part for text in design.finetune_settings for part in ("--set", text)]

    def report(name: str, file: str) -> Path:
        return path / "report" / name / file

    return [
        StudyStep(
            f"{run.name}: pretrain",
            checkpoint_directory(path / "checkpoints", run.steps).is_dir,
            ["pretrain", design.recipe, *_common_settings(design, root), *run.overrides]
            + ["--run-dir", str(path), "--processes", "1"],
        ),
        StudyStep(
            f"{run.name}: held-out text",
            lambda: held_out_loss(path, run.steps) is not None,
            ["evaluate", str(path), "--held-out", str(root / "held-out")],
        ),
        *(
            StudyStep(
                f"{run.name}: probe on {task}",
                report(result_tasks(task)[-1].name, "probe.json").is_file,
                ["probe", str(path), "--task", task, *tasks],
            )
            for task in design.probe
        ),
        *(
            StudyStep(
                f"{run.name}: fine-tune on {task}",
                report(result_tasks(task, design.finetune_settings)[-1].name, "curve.html").is_file,
                ["finetune", str(path), "--task", task, *tasks, *settings]
                + ["--step", str(run.steps), "--seeds", "1", "--workers", "1"],
            )
            for task in design.finetune
        ),
    ]


def result_tasks(task: str, settings: Sequence[str] = ()) -> list[TaskSpec]:
    """Return the tasks that results are named after: one, or those of a list of ``train_rows``."""
    return load_task(task, overrides=settings).by_size()


def write_sweep(design: Design, root: Path, planned: Sequence[StudyRun]) -> Path:
    """Write runs as a sweep, which ``convbert submit --array`` trains on a cluster."""
    common = _common_settings(design, root.resolve())
    shared = dict(setting.split("=", 1) for setting in common)
    runs = {run.name: shared | run.settings for run in planned}
    root.mkdir(parents=True, exist_ok=True)
    with atomic_write(root / "sweep.yaml") as file:
        file.write(yaml.safe_dump(runs, sort_keys=False).encode())
    return root / "sweep.yaml"


def data_settings(root: Path) -> list[str]:
    """Return the settings that name a study's shards and tokenizer."""
    manifest = root / "shards" / "manifest.json"
    return [f"data.manifest={manifest}", f"data.tokenizer={root / 'tokenizer'}"]


def _common_settings(design: Design, root: Path) -> list[str]:
    """Return the settings that all runs of a study share: where its data and MLflow runs are."""
    settings = [*data_settings(root), f"tracking.uri=sqlite:///{root.resolve() / 'mlflow.db'}"]
    if design.pairs:
        texts = [str(root / "corpus" / name) for name in design.held_out]
        pairs = {"inputs": texts, "count": design.pairs}
        settings.append(f"evaluation.pairs={json.dumps(pairs)}")
    return settings


def held_out_loss(path: Path, step: int) -> float | None:
    """Return the masked-token loss on held-out text of the run in ``path`` after ``step`` updates.

    It is the newest one measured, infinite for NaN; None where there is none.
    """
    if not (path / FILE_NAME).is_file():
        return None
    name = metric_names.held_out(metric_names.LOSS_MLM)
    points = (r for r in read_records(path / FILE_NAME) if isinstance(r, CurvePoint))
    found = [p.value for p in points if p.curve == name and p.extra.get("step") == step]
    if not found:
        return None
    return math.inf if math.isnan(found[-1]) else found[-1]


def _task_data(design: Design, root: Path) -> Path:
    return design.task_data or root / "tasks"
