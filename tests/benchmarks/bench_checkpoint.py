"""How long training waits for a checkpoint: ``python -m tests.benchmarks.bench_checkpoint --help``.

One process trains on random tokens, saves, and trains on while a thread writes. Printed is a row of
medians: of an update with nothing else going on, of the wait until training goes on, of an update
while the checkpoint is being written, and of the time until it is on the disk, which is about what
a checkpoint written in place would hold training up.
"""

import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer

from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.checkpoints.saving import Checkpointer
from convbert.pretrain.engine.assembly import build_engine
from convbert.pretrain.engine.process_group import init_distributed
from convbert.pretrain.objective.losses import Normalizers, build_objective
from convbert.pretrain.run.checkpoint_manifest import checkpoint_directory
from convbert.pretrain.settings.checkpoint import CheckpointConfig
from convbert.pretrain.settings.deepspeed import (
    load_deepspeed_config,
    resolve_deepspeed_config,
)
from convbert.pretrain.settings.objective import ObjectiveConfig
from convbert.pretrain.settings.optimizer import OptimizerConfig
from convbert.pretrain.settings.run import RunConfig
from tests.benchmarks.pretraining import mask, random_batch
from tests.benchmarks.suites import Setting
from tests.benchmarks.table import machine

RATE = 1e-4
RUN = RunConfig(checkpoint=CheckpointConfig(keep_last=1))


@dataclass
class Times:
    """Seconds of every update without and with writing beside it, of every wait and writing."""

    quiet: list[float] = field(default_factory=list)
    writing: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    written: list[float] = field(default_factory=list)


class Training:
    """A size of model that trains on one batch and is saved to a folder."""

    def __init__(self, setting: Setting, stage: int, folder: Path) -> None:
        self._batch = mask(random_batch(setting))
        tokens = self._batch.document_ids_BL > 0
        self._normalizers = Normalizers(self._batch.valid_BM.sum().float(), tokens.sum())
        objective = ObjectiveConfig()
        config = resolve_deepspeed_config(
            load_deepspeed_config(f"zero{stage}"),
            precision="fp32",
            micro_batch=setting.batch,
            accumulation=1,
            clip=1.0,
        )
        model = build_objective(build_model(preset(setting.size)), objective)
        self._engine, _ = build_engine(model, config, OptimizerConfig())
        self._folder = folder
        self._checkpointer = Checkpointer(folder, RUN, self._engine)

    def update(self) -> float:
        """Run an update; return its seconds."""
        begun = time.perf_counter()
        loss, _ = self._engine.forward(self._batch, self._normalizers)
        self._engine.backward(loss)
        self._engine.gradient_norm(RATE)
        self._engine.finish(apply=True)
        return time.perf_counter() - begun

    def round(self, number: int, updates: int, times: Times) -> None:
        """Train for some updates, save, and train until the checkpoint is there."""
        times.quiet += [self.update() for _ in range(updates)]
        begun = time.perf_counter()
        self._checkpointer.save(number, {"metrics": {}})
        times.waits.append(time.perf_counter() - begun)
        final = checkpoint_directory(self._folder, number)
        while not final.is_dir():
            times.writing.append(self.update())
        times.written.append(time.perf_counter() - begun)
        self._checkpointer.finish()


def report(setting: Setting, stage: int, times: Times, size: int) -> str:
    """Return the table: the figures and their share of an update."""
    update = statistics.median(times.quiet)
    rows = {
        "an update, nothing else": update,
        "training waits for a checkpoint": statistics.median(times.waits),
        "the longest of these waits": max(times.waits),
        "an update beside the writing": statistics.median(times.writing),
        "until it is on the disk": statistics.median(times.written),
    }
    lines = [
        f"{machine('cpu')}, {torch.get_num_threads()} threads, {setting.size}, ZeRO {stage}, "
        f"{setting.batch} x {setting.length} tokens, float32, {len(times.waits)} checkpoints of "
        f"{size / 1e9:.2f} GB",
        "",
        "| | seconds | updates |",
        "|---|---:|---:|",
        *(f"| {name} | {s:.2f} | {s / update:.2f} |" for name, s in rows.items()),
    ]
    return "\n".join(lines)


def main(
    size: Annotated[str, typer.Option(help="Model size.")] = "base",
    stage: Annotated[int, typer.Option(help="ZeRO stage.")] = 0,
    rows: Annotated[int, typer.Option(help="Sequences per update.")] = 4,
    length: Annotated[int, typer.Option(help="Tokens per sequence.")] = 128,
    rounds: Annotated[int, typer.Option(help="Checkpoints.")] = 5,
    updates: Annotated[int, typer.Option(help="Updates before each checkpoint.")] = 5,
    folder: Annotated[Path | None, typer.Option(help="Disk to write to; default $TMPDIR.")] = None,
    output: Annotated[Path | None, typer.Option(help="Append the table to this file.")] = None,
) -> None:
    """Train and save in turns; print medians and ratios."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    init_distributed()
    setting = Setting(size, rows, length, torch.float32, "cpu")
    times = Times()
    with tempfile.TemporaryDirectory(dir=folder) as place:
        training = Training(setting, stage, Path(place))
        # The first checkpoint makes the buffers, the first update the moments.
        training.round(0, 2, Times())
        for number in range(1, rounds + 1):
            training.round(number, updates, times)
        written = sum(p.stat().st_size for p in Path(place).rglob("*") if p.is_file())
    table = report(setting, stage, times, written)
    print(table)
    if output is not None:
        with output.open("a") as file:
            file.write(f"{table}\n\n")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    typer.run(main)
