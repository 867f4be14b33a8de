"""Run a study: every step is one command of the command line, left out when its result exists.

So a study continues wherever it was interrupted: a finished step is skipped, and training goes on
from its newest checkpoint. Several runs go on side by side, one process each, which take the GPUs
in turn.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

import yaml
from rich.console import Console
from rich.table import Table

from convbert.data_pipeline.atomic import atomic_write
from convbert.models.errors import UserError
from convbert.pretrain.finetune.device import visible_gpus
from convbert.pretrain.finetune.task import load_task
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory
from convbert.pretrain.run.exit_codes import STOPPED
from convbert.pretrain.study.design import Design, StudyRun, plan
from convbert.pretrain.tracking.metrics_log import FILE_NAME, read_records
from convbert.pretrain.tracking.records import CurvePoint


@dataclass(frozen=True)
class Step:
    """A command (``arguments`` of ``convbert``) and how to tell that it is done."""

    title: str
    done: Callable[[], bool]
    arguments: list[str]


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A signal ended the study; the same command continues it."""


class Commands:
    """Runs commands as processes of their own, and ends them all when the study is stopped."""

    def __init__(self, console: Console, threads: int) -> None:
        """``threads`` is what each command may use, unless OMP_NUM_THREADS says otherwise."""
        self._console = console
        # More threads than cores wait for each other instead of computing.
        self._environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
        self._alive: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._stopping = False

    def run(self, step: Step, log: Path | None = None, gpu: str | None = None) -> None:
        """Run a step that is not done; raises ``UserError`` where its command fails.

        It sees no other GPU than ``gpu``. After ``stop`` it raises ``Stopped`` instead.
        """
        if step.done():
            return
        self._console.print(f"[dim]$ convbert {shlex.join(step.arguments)}[/dim]", soft_wrap=True)
        command = [sys.executable, "-m", "convbert.pretrain.cli", *step.arguments]
        code = self._finish(command, log, gpu)
        if code and self._stopping:
            raise Stopped
        if code:
            raise UserError(
                f"{step.title}: ended with status {code}{f'; see {log}' if log else ''}"
            )
        if not step.done():
            raise UserError(f"{step.title}: ended without its result; run the command by hand")

    def _finish(self, command: list[str], log: Path | None, gpu: str | None = None) -> int:
        chosen = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
        with open(log or os.devnull, "ab") as file:
            target = file if log else None
            with self._lock:
                if self._stopping:
                    return STOPPED
                # A session of its own: Ctrl-C reaches it once, through `stop`.
                process = subprocess.Popen(
                    command,
                    stdout=target,
                    stderr=target,
                    start_new_session=True,
                    env=self._environment | chosen,
                )
                self._alive.add(process)
            try:
                return process.wait()
            finally:
                with self._lock:
                    self._alive.discard(process)

    def stop(self) -> None:
        """Ask all commands to end, training with a checkpoint; start no more."""
        with self._lock:
            self._stopping = True
            for process in self._alive:
                process.send_signal(signal.SIGINT)


def data_steps(design: Design, root: Path) -> list[Step]:
    """List what comes before training: text, labelled data, tokenizer, two sets of shards."""
    corpus, tokenizer, tasks = root / "corpus", root / "tokenizer", _task_data(design, root)
    texts = [corpus / name for name in design.texts]
    held_out = [corpus / name for name in design.held_out]
    steps = [
        Step(
            "Fetch text",
            lambda: not design.corpora or all(p.is_file() for p in (*texts, *held_out)),
            ["corpus", "fetch", *design.corpora, "-o", str(corpus)],
        ),
        Step(
            "Fetch labelled data",
            lambda: all(Path(load_task(n, tasks).train).is_file() for n in design.fetch_tasks),
            ["tasks", "fetch", *design.fetch_tasks, "-o", str(tasks)],
        ),
        Step(
            "Train a tokenizer",
            tokenizer.is_dir,
            ["tokenizer", "train", *map(str, texts), "-o", str(tokenizer), "--lowercase"]
            + ["--vocab-size", str(design.vocab_size), "--max-sentences", "60000"],
        ),
    ]
    for name, inputs in (("shards", texts), ("held-out", held_out)):
        steps.append(
            Step(
                f"Build {name}",
                (root / name).is_dir,
                ["shards", "build", *map(str, inputs), "-o", str(root / name)]
                + ["-t", str(tokenizer), "--packing", "full"]
                + ["--seq-len", str(design.sequence_length)],
            )
        )
    return steps


def run_steps(design: Design, root: Path, run: StudyRun) -> list[Step]:
    """List the commands of one run: train, held-out text, probes, fine-tuning."""
    path = root / "runs" / run.name
    last = checkpoint_directory(path / "checkpoints", run.steps)
    tasks = ["--data-dir", str(_task_data(design, root))]
    settings = [part for text in design.finetune_settings for part in ("--set", text)]
    steps = [
        Step(
            f"{run.name}: pretrain",
            last.is_dir,
            ["pretrain", design.recipe, *common_settings(root), *run.overrides]
            + ["--run-dir", str(path), "--processes", "1"],
        ),
        Step(
            f"{run.name}: held-out text",
            lambda: _measured(path, "held_out/loss/mlm", run.steps),
            ["evaluate", str(path), "--held-out", str(root / "held-out")],
        ),
    ]
    for task in design.probe:
        steps.append(
            Step(
                f"{run.name}: probe on {task}",
                (path / "report" / load_task(task).name / "probe.json").is_file,
                ["probe", str(path), "--task", task, *tasks],
            )
        )
    for task in design.finetune:
        steps.append(
            Step(
                f"{run.name}: fine-tune on {task}",
                (path / "report" / load_task(task).name / "curve.html").is_file,
                ["finetune", str(path), "--task", task, *tasks, *settings]
                + ["--step", str(run.steps), "--seeds", "1", "--workers", "1"],
            )
        )
    return steps


def common_settings(root: Path) -> list[str]:
    """Return the settings that all runs of a study share, where its data and MLflow runs are."""
    return [
        f"data.manifest={root / 'shards' / 'manifest.json'}",
        f"data.tokenizer={root / 'tokenizer'}",
        f"tracking.uri=sqlite:///{root.resolve() / 'mlflow.db'}",
    ]


def finished(design: Design, root: Path, run: StudyRun) -> bool:
    """Tell whether a run is trained and measured."""
    return all(step.done() for step in run_steps(design, root, run))


def carry_out(design: Design, root: Path, workers: int, console: Console) -> None:
    """Do whatever is not done yet; raises ``UserError`` at the first command that fails.

    SIGINT and SIGTERM end it with ``Stopped`` once the runs in training have saved a checkpoint.
    """
    (root / "logs").mkdir(parents=True, exist_ok=True)
    _settle(design, root)
    commands = Commands(console, max(1, len(os.sched_getaffinity(0)) // workers))
    with _stopped_by_signals(commands):
        for step in data_steps(design, root):
            commands.run(step)
        _all_runs(design, root, workers, commands, console)


def _all_runs(
    design: Design, root: Path, workers: int, commands: Commands, console: Console
) -> None:
    waiting = [run for run in plan(design) if not finished(design, root, run)]
    began = time.monotonic()
    gpus = visible_gpus()
    seats: SimpleQueue[str | None] = SimpleQueue()
    for number in range(workers):
        seats.put(gpus[number % len(gpus)] if gpus else None)

    def work(run: StudyRun) -> None:
        gpu = seats.get()
        try:
            for step in run_steps(design, root, run):
                commands.run(step, root / "logs" / f"{run.name}.log", gpu)
        finally:
            seats.put(gpu)

    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, run) for run in waiting]
        for number, future in enumerate(as_completed(futures), 1):
            try:
                future.result()
            except BaseException:
                commands.stop()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
            hours = (time.monotonic() - began) / number * (len(waiting) - number) / 3600
            console.print(f"{number} of {len(waiting)} runs; about {hours:.1f} h to go")


class _stopped_by_signals:  # noqa: N801 - reads as what it does
    """Turns SIGINT and SIGTERM into the end of all commands while it lasts."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._before: dict[int, object] = {}

    def __enter__(self) -> None:
        def stop(number: int, frame: FrameType | None) -> None:
            # A thread: the handler may interrupt the very code that holds the lock.
            threading.Thread(target=self._commands.stop).start()

        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, stop)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]


def _settle(design: Design, root: Path) -> None:
    """Keep the design with the results; refuse to mix two designs in one directory."""
    path, content = root / "design.json", design.model_dump_json(indent=1)
    if path.is_file() and path.read_text() != content:
        raise UserError(f"{path}: this directory holds another study; choose another --output")
    with atomic_write(path) as file:
        file.write(content.encode())


def write_sweep(design: Design, root: Path) -> Path:
    """Write all runs as a sweep, which ``convbert submit --array`` trains on a cluster."""
    shared = dict(setting.split("=", 1) for setting in common_settings(root.resolve()))
    runs = {run.name: shared | run.settings for run in plan(design)}
    root.mkdir(parents=True, exist_ok=True)
    with atomic_write(root / "sweep.yaml") as file:
        file.write(yaml.safe_dump(runs, sort_keys=False).encode())
    return root / "sweep.yaml"


def show_plan(design: Design, console: Console) -> None:
    """Print updates, tokens and FLOPs of each variant."""
    table = Table(title=f"{len(plan(design))} runs, {design.seeds} of each variant")
    for column in ("variant", "updates", "tokens", "hardware FLOPs", "papers' FLOPs"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for run in plan(design):
        if run.seed == 0:
            cells = (f"{run.steps:,}", f"{run.tokens:,}")
            table.add_row(
                run.variant, *cells, f"{run.hardware_flops:.3e}", f"{run.papers_flops:.3e}"
            )
    console.print(table)


def _measured(path: Path, curve: str, step: int) -> bool:
    return any(point.curve == curve and point.extra.get("step") == step for point in _points(path))


def _points(path: Path) -> Iterator[CurvePoint]:
    log = path / FILE_NAME
    if log.is_file():
        yield from (r for r in read_records(log) if isinstance(r, CurvePoint))


def _task_data(design: Design, root: Path) -> Path:
    return design.task_data or root / "tasks"
