"""How long training waits for a checkpoint: ``python -m tests.benchmarks.bench_checkpoint --help``.

One process trains on random tokens and saves after some updates, in turns. Printed are the medians
of an update, of the wait until training goes on, and of the time until the checkpoint is on the
disk, which is what a checkpoint written in place would cost.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from convbert.data_pipeline.batch import Batch
from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.checkpoints.config import CheckpointConfig
from convbert.pretrain.checkpoints.saving import Checkpointer
from convbert.pretrain.objective.config import ObjectiveConfig
from convbert.pretrain.objective.losses import Normalisers, build_objective
from convbert.pretrain.objective.masking import MaskedBatch, SpecialIds, mask_batch
from convbert.pretrain.training.engine import (
    Engine,
    build_engine,
    init_distributed,
    load_deepspeed_config,
    resolve_deepspeed_config,
)

VOCABULARY = 30_522


def random_batch(objective: ObjectiveConfig, rows: int, length: int) -> MaskedBatch:
    """Return masked rows of random tokens."""
    ids = torch.randint(10, VOCABULARY, (rows, length))
    ones = torch.ones_like(ids)
    batch = Batch(ids, 0 * ones, ones, ones.sum(1), torch.arange(rows), packed=False)
    return mask_batch(objective.masking, SpecialIds(0, 1, 2, 3), 0, batch)


def build(size: str, stage: int, rows: int, objective: ObjectiveConfig) -> Engine:
    """Return a fp32 engine of a model of this size."""
    config = resolve_deepspeed_config(
        load_deepspeed_config(f"zero{stage}"),
        precision="fp32",
        micro_batch=rows,
        accumulation=1,
        clip=1.0,
    )
    model = build_objective(build_model(preset(size, vocab_size=VOCABULARY)), objective)
    return build_engine(model, config, weight_decay=0.01)


def main(
    size: Annotated[str, typer.Option(help="Model size.")] = "base",
    stage: Annotated[int, typer.Option(help="ZeRO stage.")] = 0,
    rows: Annotated[int, typer.Option(help="Sequences per update.")] = 4,
    length: Annotated[int, typer.Option(help="Tokens per sequence.")] = 128,
    rounds: Annotated[int, typer.Option(help="Checkpoints.")] = 3,
    between: Annotated[int, typer.Option(help="Updates before each checkpoint.")] = 2,
    folder: Annotated[Path | None, typer.Option(help="Disk to write to; default $TMPDIR.")] = None,
) -> None:
    """Train and save in turns; print medians and ratios."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    init_distributed()
    objective = ObjectiveConfig()
    engine = build(size, stage, rows, objective)
    masked = random_batch(objective, rows, length).rows(0, rows)
    normalisers = Normalisers(masked.valid_BM.sum().float(), torch.tensor(float(rows * length)))
    steps, stalls, writes = [], [], []
    with tempfile.TemporaryDirectory(dir=folder) as place:
        checkpointer = Checkpointer(Path(place), CheckpointConfig(keep_last=1), engine)
        for number in range(rounds + 1):
            for _ in range(between):
                begun = time.perf_counter()
                engine.forward_backward(masked, normalisers)
                engine.step(1e-4, lambda norm: True)
                steps.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            checkpointer.save(number, {"metrics": {}})
            stalls.append(time.perf_counter() - begun)
            checkpointer.finish()
            writes.append(time.perf_counter() - begun)
        bytes_written = sum(p.stat().st_size for p in Path(place).rglob("*") if p.is_file())
    # The first round makes the buffers and the optimizer's moments.
    step, stall, write = (statistics.median(x) for x in (steps[between:], stalls[1:], writes[1:]))
    print(
        f"{size}, ZeRO {stage}, {rows} x {length} tokens, {torch.get_num_threads()} threads, "
        f"{bytes_written / 1e9:.2f} GB: update {step:.2f} s, stall {stall:.2f} s "
        f"({stall / step:.2f} updates; first {stalls[0]:.2f} s), on the disk after {write:.2f} s "
        f"({write / step:.2f} updates)"
    )
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    typer.run(main)
