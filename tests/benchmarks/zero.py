"""What DeepSpeed's ZeRO stages cost beside plain DDP: ``python -m tests.benchmarks.zero``.

Two gloo processes with one thread each train the pretraining objective on random rows. Each stage
and DDP are alive together and take turns, so that a busy machine slows both; the optimizer and the
clipping are the same. What differs is what stands around them.
"""

import gc
import os
import socket
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import typer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.engine.assembly import build_engine
from convbert.pretrain.engine.optimizer import AdamW, parameter_groups
from convbert.pretrain.engine.process_group import init_distributed
from convbert.pretrain.objective.losses import Normalizers, Objective, build_objective
from convbert.pretrain.settings.deepspeed import (
    load_deepspeed_config,
    resolve_deepspeed_config,
)
from convbert.pretrain.settings.objective import ObjectiveConfig
from convbert.pretrain.settings.optimizer import OptimizerConfig
from tests.benchmarks.pretraining import mask, random_batch
from tests.benchmarks.suites import Setting
from tests.benchmarks.table import machine

STAGES = ("zero0", "zero1", "zero2", "zero3")
PROCESSES = 2
RATE, DECAY, CLIP = 1e-5, 0.01, 1.0
Step = Callable[[], None]


def main(
    size: Annotated[list[str], typer.Option(help="Model sizes.")] = ["tiny", "small"],  # noqa: B006
    stage: Annotated[list[str], typer.Option(help="DeepSpeed configurations.")] = list(STAGES),  # noqa: B006
    batch: Annotated[int, typer.Option(help="Rows per process.")] = 4,
    length: Annotated[int, typer.Option(help="Tokens per row.")] = 128,
    rounds: Annotated[int, typer.Option(help="Updates of each kind that are timed.")] = 7,
    output: Annotated[Path | None, typer.Option(help="Append the table to this file.")] = None,
) -> None:
    """Print a markdown table: seconds of an update under each stage, relative to DDP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = (port, size, stage, batch, length, rounds, output)
    mp.spawn(_process, args=arguments, nprocs=PROCESSES)


def _process(
    rank: int,
    port: int,
    sizes: list[str],
    stages: list[str],
    batch: int,
    length: int,
    rounds: int,
    output: Path | None,
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(PROCESSES)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    init_distributed()
    lines = [
        f"{machine('cpu')}, {PROCESSES} gloo processes of one thread, {batch} x {length} tokens "
        "each, float32, not compiled",
        "",
        "| size | stage | DDP, ms | with the stage, ms | ratio |",
        "|---|---|---:|---:|---:|",
    ]
    for size in sizes:
        for stage in stages:
            times = _measure(Setting(size, batch, length, torch.float32, "cpu"), stage, rounds)
            ddp, zero = (1e3 * statistics.median(t) for t in zip(*times, strict=True))
            ratio = statistics.median(with_stage / plain for plain, with_stage in times)
            lines.append(f"| {size} | {stage} | {ddp:,.0f} | {zero:,.0f} | {ratio:.2f} |")
            gc.collect()
    if rank == 0:
        print("\n".join(lines), flush=True)
        if output is not None:
            with output.open("a") as file:
                file.write("\n".join(lines) + "\n\n")
    dist.destroy_process_group()


def _measure(setting: Setting, stage: str, rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of DDP's and of the stage's update in every round."""
    steps = (_ddp(setting), _engine(setting, stage))
    times = []
    for index in range(rounds + 2):
        pair = []
        for step in steps:
            dist.barrier()
            start = time.perf_counter()
            step()
            dist.barrier()
            pair.append(time.perf_counter() - start)
        if index >= 2:  # the first updates allocate
            times.append((pair[0], pair[1]))
    return times


def _objective(setting: Setting) -> Objective:
    torch.manual_seed(0)
    return build_objective(build_model(preset(setting.size)), ObjectiveConfig())


def _inputs(setting: Setting) -> tuple[object, Normalizers]:
    masked = mask(random_batch(setting))
    return masked, Normalizers(masked.valid_BM.sum().float(), (masked.document_ids_BL > 0).sum())


def _ddp(setting: Setting) -> Step:
    objective = _objective(setting)
    module = DistributedDataParallel(objective)
    optimizer = AdamW(parameter_groups(objective, DECAY), lr=RATE)
    inputs = _inputs(setting)

    def step() -> None:
        module(*inputs)[0].backward()
        nn.utils.clip_grad_norm_(objective.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _engine(setting: Setting, stage: str) -> Step:
    config = resolve_deepspeed_config(
        load_deepspeed_config(stage),
        precision="fp32",
        micro_batch=setting.batch,
        accumulation=1,
        clip=CLIP,
    )
    engine, _ = build_engine(_objective(setting), config, OptimizerConfig(weight_decay=DECAY))
    inputs = _inputs(setting)

    def step() -> None:
        engine.backward(engine.forward(*inputs)[0])
        engine.gradient_norm(RATE)
        engine.finish(apply=True)

    return step


if __name__ == "__main__":
    typer.run(main)
